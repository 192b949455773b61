"""Audio files that no recorder writes: a seeded corpus of damaged, odd, lying and hostile inputs.

`make(folder)` writes it in a few seconds; the same seed gives the same files. Nothing here is a recording but
the one digit of tests/digits.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SPEECH = Path(__file__).parents[1] / "digits" / "seven.flac"
DAY = 24 * 3600
CONTAINERS = {
    "WAV": "wav",
    "WAVEX": "wav",
    "FLAC": "flac",
    "OGG": "ogg",
    "MP3": "mp3",
    "AIFF": "aiff",
    "CAF": "caf",
    "W64": "w64",
    "RF64": "rf64",
    "AU": "au",
}
FFMPEG = {
    "aac.m4a": ["-c:a", "aac"],
    "alac.m4a": ["-c:a", "alac"],
    "aac.mp4": ["-c:a", "aac", "-movflags", "+faststart"],
    "opus.webm": ["-c:a", "libopus"],
    "flac.mka": ["-c:a", "flac"],
    "wma.wma": ["-c:a", "wmav2"],
    "aac.aac": ["-c:a", "aac"],
    "ac3.ac3": ["-c:a", "ac3"],
    "mp2.ts": ["-c:a", "mp2"],
    "pcm.avi": ["-c:a", "pcm_s16le"],
}
HTML = "<img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Case:
    """A file of the corpus.

    path: what is opened; it need not exist. group: what kind of trouble it is.
    refused: whether it must be an error; None where a transcript is as good an answer.
    """

    path: Path
    group: str
    refused: bool | None = None


def make(folder: Path, seed: int = 9) -> list[Case]:
    """Write the corpus; about 500 files, a few megabytes (sparse ones aside)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    cases = [case for part in (_codecs, _contents, _lies, _days, _lists, _names) for case in part(folder, rng)]
    assert len({case.path for case in cases}) == len(cases)
    return cases


def sample(cases: list[Case], count: int, seed: int = 9) -> list[Case]:
    """`count` of them, from every group some."""
    rng = random.Random(seed)
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    shuffled = [rng.sample(group, len(group)) for _, group in sorted(groups.items())]
    turns = (group[i] for i in range(max(map(len, shuffled))) for group in shuffled if i < len(group))
    return [case for case, _ in zip(turns, range(count), strict=False)]


def speech() -> tuple[np.ndarray[Any, Any], int]:
    """The spoken digit, (S,) float64 and its rate in Hz."""
    samples, rate = soundfile.read(SPEECH)
    return samples, rate


def _codecs(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Every container and codec: whole, cut off, with flipped bytes, and under another one's name."""
    samples, rate = speech()
    whole: dict[str, bytes] = {}
    for container, suffix in CONTAINERS.items():
        for codec in soundfile.available_subtypes(container):
            out = io.BytesIO()
            pitch = 8000 if codec in ("GSM610", "G721_32", "G723_24", "G723_40") else rate
            try:
                soundfile.write(out, samples[:: rate // pitch], pitch, codec, format=container)
            except soundfile.LibsndfileError:
                continue  # a codec that this build of libsndfile reads only
            whole[f"{container}-{codec}.{suffix}".lower()] = out.getvalue()
    for name, codec in FFMPEG.items() if shutil.which("ffmpeg") else ():
        made = folder / f"made.{name}"
        command = ["ffmpeg", "-nostdin", "-v", "fatal", "-y", "-i", str(SPEECH), *codec, "-strict", "-2", str(made)]
        if not subprocess.run(command, check=False).returncode:
            whole[name] = made.read_bytes()
        made.unlink(missing_ok=True)
    suffixes = sorted({name.rsplit(".", 1)[1] for name in whole} | {"raw", "txt", "mp3", "ogg", "m3u8"})
    for name, content in whole.items():
        yield _file(folder, f"whole-{name}", content, "whole", refused=False)
        # the header, and anywhere
        for cut in (rng.randrange(1, min(80, len(content))), rng.randrange(1, len(content))):
            yield _file(folder, f"cut-{cut}-{name}", content[:cut], "cut")
        for place, first, last in (("header", 0, min(200, len(content))), ("body", 0, len(content))):
            flipped = bytearray(content)
            for _ in range(3 if place == "header" else max(8, len(content) // 200)):
                flipped[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
            yield _file(folder, f"flipped-{place}-{name}", bytes(flipped), f"flipped {place}")
        other = rng.choice([suffix for suffix in suffixes if not name.endswith(suffix)])
        yield _file(folder, f"called-{other}-{name.replace('.', '-')}.{other}", content, "wrong suffix")
    yield _file(folder, "empty.wav", b"", "empty", refused=True)
    for suffix in ("mp3", "wav", "flac", "ogg", "m4a", "raw"):
        yield _file(folder, f"noise.{suffix}", rng.randbytes(20_000), "noise")
        yield _file(folder, f"zeros.{suffix}", bytes(20_000), "noise")


def _contents(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Samples, rates and channels at the edges."""
    samples, rate = speech()

    def wav(name: str, data: Any, pitch: int = rate, codec: str = "FLOAT", **more: Any) -> Case:
        soundfile.write(folder / name, data, pitch, codec)
        return Case(folder / name, "content", **more)

    for suffix in ("wav", "flac", "ogg", "mp3", "aiff", "au"):
        for count in (0, 1):
            name = f"samples-{count}.{suffix}"
            soundfile.write(folder / name, np.full(count, 0.5), rate)
            yield Case(folder / name, "content", refused=True if suffix == "wav" and not count else None)
    for word, value in (("nan", np.nan), ("inf", np.inf), ("minus-inf", -np.inf), ("huge", 1e30), ("denormal", 1e-40)):
        one = samples.copy()
        one[rng.randrange(len(one))] = value
        yield wav(f"one-{word}.wav", one, refused=word != "denormal")
        yield wav(f"all-{word}.wav", np.full(rate, value), refused=word != "denormal")
    yield wav("double-max.wav", np.full(rate, 1.7e308), codec="DOUBLE", refused=True)
    yield wav("clipped.wav", np.sign(samples), codec="PCM_16", refused=False)
    yield wav("louder-than-full.wav", samples * 1000, refused=False)
    yield wav("dc.wav", np.ones(rate), codec="PCM_16", refused=False)
    yield wav("dc-and-speech.wav", samples * 0.3 + 0.6, refused=False)
    for pitch in (1, 8, 999, 1000, 1001, 44101, 383_999, 384_000, 767_999, 768_001, 2**31 - 1):
        yield wav(f"rate-{pitch}.wav", samples, pitch, "PCM_16", refused=not 1000 <= pitch <= 768_000)
    for channels in (1, 2, 3, 5, 6, 8, 17, 32, 64, 255, 1024):
        yield wav(f"channels-{channels}.wav", np.tile(samples[:, None], channels), codec="PCM_16", refused=False)
    soundfile.write(folder / "channels-8.flac", np.tile(samples[:, None], 8), rate)
    yield Case(folder / "channels-8.flac", "content", refused=False)
    soundfile.write(folder / "channels-64.caf", np.tile(samples[:, None], 64), rate)
    yield Case(folder / "channels-64.caf", "content", refused=False)


def _lies(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Headers that promise what is not there."""
    samples, rate = speech()
    pcm = (samples * 32767).astype("<i2").tobytes()

    def riff(
        size: int, data: int, channels: int = 1, pitch: int = rate, bits: int = 16, block: int | None = None
    ) -> bytes:
        align = channels * bits // 8 if block is None else block
        form = struct.pack("<HHIIHH", 1, channels, pitch, (pitch * align) & 0xFFFFFFFF, align & 0xFFFF, bits)
        return (
            b"RIFF"
            + struct.pack("<I", size)
            + b"WAVEfmt "
            + struct.pack("<I", 16)
            + form
            + (b"data" + struct.pack("<I", data) + pcm)
        )

    top = 2**32 - 1
    lies = {
        "4gib.wav": riff(top, top),
        "10-hours.wav": riff(10 * 3600 * rate * 2, 10 * 3600 * rate * 2),
        "no-size.wav": riff(0, 0),
        "no-channels.wav": riff(len(pcm), len(pcm), channels=0),
        "65535-channels.wav": riff(len(pcm), len(pcm), channels=65535),
        "no-rate.wav": riff(len(pcm), len(pcm), pitch=0),
        "rate-2-32.wav": riff(len(pcm), len(pcm), pitch=top),
        "no-bits.wav": riff(len(pcm), len(pcm), bits=0),
        "no-block.wav": riff(len(pcm), len(pcm), block=0),
        "big-chunk.wav": b"RIFF\xff\xff\xff\xffWAVEjunk\xf0\xff\xff\xff" + pcm,
        "4gib.rf64": b"RF64\xff\xff\xff\xffWAVEds64"
        + struct.pack("<IQQQI", 28, 2**62, 2**62, 2**61, 0)
        + (b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16) + b"data\xff\xff\xff\xff" + pcm),
        "4gib.au": b".snd" + struct.pack(">5I", 24, top - 1, 3, rate, 1) + samples.astype(">i2").tobytes(),
        "offset.au": b".snd" + struct.pack(">5I", top, top, 3, rate, 1) + pcm,
        "4gib.aiff": b"FORM\xff\xff\xff\xffAIFFCOMM"
        + struct.pack(">IhIh", 18, 1, top, 16)
        + (b"\x40\x0c\xfa\x00\x00\x00\x00\x00\x00\x00SSND" + struct.pack(">III", top, 0, 0) + pcm),
        "id3-4gib.mp3": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + rng.randbytes(5000),
        "ftyp-4gib.m4a": struct.pack(">I", 20) + b"ftypM4A \0\0\0\0M4A " + struct.pack(">I", top) + b"moov" + pcm,
        "stsz-4gib.m4a": _boxes(top),
        "ebml-4gib.webm": b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe" + pcm,
        "flac-picture-16mb.flac": b"fLaC\x00\x00\x00\x22" + _streaminfo(rate, 2**36 - 1) + b"\x86\xff\xff\xff" + pcm,
    }
    for name, content in lies.items():
        yield _file(folder, name, content, "lie")
    flac = (folder / "whole-flac-pcm_16.flac").read_bytes()
    yield _file(folder, "10-hours.flac", flac[:8] + _streaminfo(rate, 36_000 * rate) + flac[42:], "lie", refused=False)


def _days(folder: Path, rng: random.Random) -> Iterator[Case]:
    """24 hours of silence in little room; decoding has to stop at the limit."""
    for pitch in (8000, 192_000):
        name = f"day-{pitch}.flac"
        yield _file(folder, name, flac_of_silence(DAY, pitch), "day", refused=True)
    if shutil.which("ffmpeg"):
        for suffix in ("mka", "mp4"):
            path = folder / f"day.{suffix}"
            copy = ["-i", str(folder / "day-8000.flac"), "-c", "copy", "-strict", "-2", str(path)]
            if not subprocess.run(["ffmpeg", "-nostdin", "-v", "fatal", "-y", *copy], check=False).returncode:
                yield Case(path, "day", refused=True)
    path = folder / "day-sparse.wav"  # 450 MB of a hole: nothing on the disk
    size = 450_000_000
    with path.open("wb") as file:
        form = struct.pack("<HHIIHH", 1, 1, 5000, 5000, 1, 8)
        file.write(b"RIFF" + struct.pack("<I", size) + b"WAVEfmt " + struct.pack("<I", 16) + form)
        file.write(b"data" + struct.pack("<I", size - 44))
        file.truncate(size)
    yield Case(path, "day", refused=True)


def _lists(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Playlists that point to another file here, and archives, all under the names of audio."""
    secret = folder / "secret.wav"
    shutil.copy(folder / "whole-wav-pcm_16.wav", secret)
    absolute = secret.resolve()
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
    mpd = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
        'mimeType="audio/mp4"><Representation id="0" bandwidth="9"><BaseURL>{}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    texts = {
        "plain.m3u": "secret.wav\n",
        "extended.m3u": f"#EXTM3U\n#EXTINF:1,x\n{absolute}\n",
        "hls-relative.m3u8": hls.format("secret.wav"),
        "hls-file.m3u8": hls.format(f"file://{absolute}"),
        "hls-concat.m3u8": hls.format(f"concat:{absolute}|{absolute}"),
        "hls-network.m3u8": hls.format("http://127.0.0.1:9/x.ts"),
        "hls-key.m3u8": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="file://{absolute}"\n#EXTINF:9,\n{absolute}\n#EXT-X-ENDLIST\n',
        "list.pls": f"[playlist]\nFile1={absolute}\nNumberOfEntries=1\nVersion=2\n",
        "sheet.cue": 'FILE "secret.wav" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
        "concat.ffconcat": "ffconcat version 1.0\nfile 'secret.wav'\n",
        "concat-unsafe.ffconcat": f"ffconcat version 1.0\nfile '{absolute}'\n",
        "dash.mpd": mpd.format(absolute),
        "list.xspf": f"<playlist><trackList><track><location>file://{absolute}</location></track></trackList></playlist>",
        "list.asx": f'<asx version="3.0"><entry><ref href="file://{absolute}"/></entry></asx>',
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
        "page.html": f"<html><body>{HTML}</body></html>",
    }
    for name, text in texts.items():
        yield _file(folder, name, text.encode(), "list", refused=True)
        yield _file(folder, f"{name}.mp3", text.encode(), "list", refused=True)
    speech_bytes = secret.read_bytes()
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../secret.wav", speech_bytes)
        archive.writestr("bomb", bytes(50_000_000))
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        info = tarfile.TarInfo("../../escaped.wav")
        info.size = len(speech_bytes)
        tar.addfile(info, io.BytesIO(speech_bytes))
    for name, content in {"zip": zipped.getvalue(), "tar.gz": tarred.getvalue()}.items():
        yield _file(folder, f"archive-{name}.mp3", content, "archive")
        yield _file(folder, f"archive-{name}.wav", content, "archive", refused=True)


def _names(folder: Path, rng: random.Random) -> Iterator[Case]:
    """Names and places that are no plain file, or that a face could trip over."""
    good, bad = (folder / "whole-wav-pcm_16.wav").read_bytes(), b"no audio at all" * 9
    odd = ["new\nline", "tab\t", "rtl\u202egpj", HTML.replace("/", "-"), "'; rm -rf x #", "$(touch pwned)", "%d%s%n"]
    odd += ["-i", "--stack", "..", "\x1b[31mred", "e\u0301\U0001f426", "[0-9]*?", "&amp;", '"quoted"', "{brace}", " "]
    odd += ["concat:secret.wav|", "a" * 240]
    for number, name in enumerate(odd):
        yield _file(folder / "names", f"{name}{number}.wav", good, "name", refused=False)
        yield _file(folder / "names", f"{name}{number}.mp3", bad, "name", refused=True)
    raw = os.fsencode(folder / "names") + b"/\xff\xfe.wav"
    Path(os.fsdecode(raw)).write_bytes(good)
    yield Case(Path(os.fsdecode(raw)), "name", refused=False)
    yield Case(folder / ("b" * 300 + ".wav"), "name", refused=True)
    yield Case(folder / "nul\0.wav", "name", refused=True)
    yield Case(folder / "gone.wav", "name", refused=True)
    yield Case(folder / "names" / ".." / ".." / "nowhere.wav", "name", refused=True)
    yield Case(folder / "names" / ".." / "whole-wav-pcm_16.wav", "name", refused=False)
    for name, target in (
        ("to-speech", "../whole-wav-pcm_16.wav"),
        ("dangling", "nowhere"),
        ("loop", "loop.wav"),
        ("to-folder", ".."),
        ("to-zero", "/dev/zero"),
        ("to-passwd", "/etc/passwd"),
    ):
        path = folder / "names" / f"{name}.wav"
        path.symlink_to(target)
        yield Case(path, "place", refused=name != "to-speech")
    os.mkfifo(folder / "names" / "pipe.wav")
    yield Case(folder / "names" / "pipe.wav", "place", refused=True)
    yield Case(folder / "names", "place", refused=True)


def _file(folder: Path, name: str, content: bytes, group: str, refused: bool | None = None) -> Case:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return Case(path, group, refused)


def _streaminfo(rate: int, total: int, block: int = 4096) -> bytes:
    """FLAC's STREAMINFO, 34 bytes: one channel, 16 bits."""
    packed = rate << 44 | 15 << 36 | total
    return struct.pack(">HH", block, block) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)


def flac_of_silence(seconds: int, rate: int) -> bytes:
    """A FLAC file of silence, 14 bytes for each 65,535 samples: one constant subframe a frame (RFC 9639)."""
    block = 65_535
    frames = seconds * rate // block
    out = [b"fLaC\x80\x00\x00\x22", _streaminfo(rate, frames * block, block)]
    crc8, crc16 = _crc(0x07, 8), _crc(0x8005, 16)
    for number in range(frames):
        head = b"\xff\xf8\x70\x08" + _coded(number) + struct.pack(">H", block - 1)
        head += bytes([crc8(head)])
        frame = head + bytes(3)  # constant subframe, value 0
        out.append(frame + struct.pack(">H", crc16(frame)))
    return b"".join(out)


def _coded(number: int) -> bytes:
    """FLAC's frame number, written like UTF-8 with up to 36 bits."""
    if number < 0x80:
        return bytes([number])
    tail = []
    while number >= 1 << (6 - len(tail)):
        tail.append(0x80 | number & 0x3F)
        number >>= 6
    first = (0xFF << (7 - len(tail))) & 0xFF | number
    return bytes([first, *reversed(tail)])


def _crc(polynomial: int, bits: int) -> Callable[[bytes], int]:
    top, mask = 1 << (bits - 1), (1 << bits) - 1
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
        table.append(value)

    def crc(data: bytes) -> int:
        value = 0
        for byte in data:
            value = (value << 8 ^ table[value >> (bits - 8) ^ byte]) & mask
        return value

    return crc


def _boxes(count: int) -> bytes:
    """An MP4 whose sample tables claim `count` entries."""

    def box(kind: bytes, *content: bytes) -> bytes:
        inner = b"".join(content)
        return struct.pack(">I", len(inner) + 8) + kind + inner

    entry = box(b"mp4a", bytes(6), struct.pack(">H8xHHIHH", 1, 1, 16, 0, 0, 0)[:22] + struct.pack(">I", 16000 << 16))
    table = box(
        b"stbl",
        box(b"stsd", bytes(4), struct.pack(">I", 1), entry),
        box(b"stts", bytes(4), struct.pack(">III", count, count, 1)),
        box(b"stsc", bytes(4), struct.pack(">IIII", count, 1, 1, 1)),
        box(b"stsz", bytes(4), struct.pack(">II", 0, count)),
        box(b"stco", bytes(4), struct.pack(">II", count, 0)),
    )
    track = box(
        b"trak",
        box(b"tkhd", bytes(84)),
        box(
            b"mdia",
            box(b"mdhd", bytes(12), struct.pack(">IIHH", 16000, count, 0, 0)),
            box(b"hdlr", bytes(8), b"soun", bytes(13)),
            box(b"minf", box(b"smhd", bytes(8)), table),
        ),
    )
    return box(b"ftyp", b"M4A \0\0\0\0M4A ") + box(b"moov", box(b"mvhd", bytes(100)), track) + box(b"mdat", bytes(64))
