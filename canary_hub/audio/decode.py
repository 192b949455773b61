"""Audio in: any file or array becomes a mono float32 waveform at the model's rate, or a clear error.

Decoding, downmix and resampling run block by block, so memory is the result plus a few megabytes, and
limits hold on what was really decoded, not on what a header claims.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AudioError
from ..settings import number
from .resample import Resampler
from .waveform import Waveform, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .waveform import Blocks

MIN_RATE, MAX_RATE = 1_000, 768_000
"""Sample rates in Hz outside this range are refused."""

DECODE_SECONDS = 600.0
"""Wall-clock time after which decoding one input is given up."""

_BLOCK_VALUES = 1 << 20  # samples of all channels that are decoded at once
_MAX_ARRAY_CHANNELS = 256
_LOUDEST = 2.0**31  # beyond int32's scale a float is no sample
_FULL_SCALE = {"int8": 2**7, "int16": 2**15, "int32": 2**31, "uint8": 2**7, "uint16": 2**15}
_FFMPEG_FORMATS = (  # containers only: no playlists, no device or network inputs
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv"
)
_CONVERT = "Check that it plays elsewhere, or convert it to WAV, FLAC, OGG or MP3."
_INSTALL_FFMPEG = (
    "WAV, FLAC, OGG and MP3 are read directly. For M4A, MP4, WebM and others install ffmpeg "
    "(apt install ffmpeg, brew install ffmpeg, winget install ffmpeg)."
)


@dataclass(frozen=True)
class Limits:
    """The largest input that `load_audio` accepts: bytes of the file, seconds of decoded audio."""

    max_bytes: int = 500_000_000
    max_seconds: float = 4 * 3600.0

    @classmethod
    def from_env(cls) -> Limits:
        """Read CANARY_HUB_MAX_FILE_MB (10^6 bytes) and CANARY_HUB_MAX_SECONDS, else the defaults.

        Raises `OptionError` for a value that is not a positive number.
        """
        megabytes = number("CANARY_HUB_MAX_FILE_MB", cls.max_bytes / 1e6)
        return cls(int(megabytes * 1e6), number("CANARY_HUB_MAX_SECONDS", cls.max_seconds))


def load_audio(
    source: str | Path | bytes | tuple[int, NDArray[Any]] | Waveform,
    rate: int = 16000,
    limits: Limits | None = None,
    *,
    name: str | None = None,
) -> Waveform:
    """Decode, downmix by mean and resample to `rate` Hz.

    `source` is a path, the bytes of a file, (sample rate in Hz, array (S,) or (S, C)) with int8, int16, int32,
    uint8, uint16 or float samples, or a Waveform, which is returned as it is if it has that rate.
    libsndfile reads first; what it cannot read goes to ffmpeg where that is installed. A damaged file is
    read as far as it goes. `name` is what errors and the result call the input (default: the file's name).
    `limits` default to `Limits.from_env()`.

    Raises `AudioError` for everything that is no usable audio or beyond the limits.
    """
    limits = limits or Limits.from_env()
    if isinstance(source, Waveform):
        if source.rate == rate and len(source.samples):
            return source
        name, source = name or source.name, (source.rate, source.samples)
    if isinstance(source, tuple):
        name = printable(name or "the recording")
        return _collect(_from_array(source, name), name, rate, limits)
    if isinstance(source, bytes):
        name = printable(name or "the upload")
        _check_size(len(source), name, limits)
    elif isinstance(source, (str, Path)):
        name = printable(name or Path(source).name or str(source))
        _check_size(_file_size(source, name), name, limits)
    else:
        raise AudioError(f"A {type(source).__name__} is no audio.", "Give a path, bytes or (rate, array).")
    try:
        return _collect(_from_soundfile(source), name, rate, limits)
    except _Unreadable:
        if shutil.which("ffmpeg") is None:
            raise AudioError(f"{name} is no audio that libsndfile reads.", _INSTALL_FFMPEG) from None
    try:
        if isinstance(source, bytes):
            with tempfile.TemporaryDirectory() as folder:  # a file, since MP4 is read by seeking
                path = Path(folder) / "upload"
                path.write_bytes(source)
                return _collect(_from_ffmpeg(path, limits), name, rate, limits)
        return _collect(_from_ffmpeg(source, limits), name, rate, limits)
    except _Unreadable as problem:
        reason = str(problem) or "holds no audio that libsndfile or ffmpeg can read"
        raise AudioError(f"{name} {reason}.", _CONVERT) from None


class _Unreadable(Exception):
    """A decoder cannot make anything of the input; the message, if any, completes "NAME ..."."""


def _collect(blocks: Blocks, name: str, rate: int, limits: Limits) -> Waveform:
    """Downmix, check and resample `blocks` of (frames, channels) into one waveform at `rate` Hz."""
    import numpy as np

    _check_rate(rate, "The target sample rate")
    deadline = time.monotonic() + DECODE_SECONDS
    resampler: Resampler | None = None
    out = bytearray()  # grows in place: no second copy of hours of audio
    frames = 0
    with closing(blocks):  # type: ignore[type-var, unused-ignore]
        for source, block in blocks:
            if resampler is None:
                _check_rate(source, f"The sample rate of {name}")
                resampler = Resampler(source, rate)
            mono = block.mean(axis=1, dtype=np.float32) if block.shape[1] > 1 else block[:, 0]
            usable = np.abs(mono) <= _LOUDEST  # false for NaN too
            if not usable.all():
                at = int(usable.argmin())
                where = f"{mono[at]} at {(frames + at) / source:.2f} s"
                raise AudioError(
                    f"{name} has a sample that is no usable number ({where}).",
                    "Export it again as 16-bit or 24-bit audio.",
                )
            frames += len(mono)
            if frames > limits.max_seconds * source:
                raise AudioError(
                    f"{name} is longer than the limit of {limits.max_seconds:g} seconds.",
                    "Cut it into parts, or raise CANARY_HUB_MAX_SECONDS.",
                )
            if time.monotonic() > deadline:
                raise _too_slow(name)
            out += resampler.feed(mono).tobytes()
    if resampler is None:
        raise AudioError(f"{name} holds no samples.", "Record or export it again.")
    out += resampler.finish().tobytes()
    return Waveform(np.frombuffer(out, np.float32), rate, name)


def _from_array(source: tuple[int, NDArray[Any]], name: str) -> Blocks:
    """Blocks of an array (S,) or (S, C), integers scaled to [-1, 1]."""
    import numpy as np

    hint = "Give (sample rate, array of shape (samples,) or (samples, channels))."
    if len(source) != 2:
        raise AudioError(f"{name} is a tuple of {len(source)} items.", hint)
    rate, samples = source[0], np.asarray(source[1])
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.integer)) or rate % 1 != 0:
        raise AudioError(f"{name} has the sample rate {rate!r}, which is no whole number.", hint)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 0 < samples.shape[1] <= _MAX_ARRAY_CHANNELS):
        raise AudioError(f"{name} is an array of shape {samples.shape}.", hint)
    kind = samples.dtype.name
    if kind not in _FULL_SCALE and samples.dtype.kind != "f":
        raise AudioError(f"{name} has samples of type {kind}.", f"Use float, {', '.join(_FULL_SCALE)}.")
    columns = samples.reshape(len(samples), -1) if samples.size else samples.reshape(0, 1)
    scale = _FULL_SCALE.get(kind, 1)
    step = max(1, _BLOCK_VALUES // columns.shape[1])
    for first in range(0, len(columns), step):
        block = columns[first : first + step]
        if scale > 1:
            with_sign = block.astype(np.float64) - (scale if kind.startswith("u") else 0)
            yield int(rate), (with_sign / scale).astype(np.float32)
        else:
            with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is refused
                yield int(rate), block.astype(np.float32)


def _from_soundfile(source: str | Path | bytes) -> Blocks:
    """Blocks that libsndfile decodes; raises `_Unreadable` if it decodes nothing of a damaged file."""
    import io

    import soundfile  # type: ignore[import-untyped, unused-ignore]

    class Forward(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
        """Reads without the seek after each block, which fails on FLAC of unknown length."""

        def seekable(self) -> bool:
            return False

    if isinstance(source, bytes):
        where: Any = io.BytesIO(source)
    else:
        where = str(source) if os.name == "nt" else os.fsencode(source)
    try:
        file = Forward(where)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a name that ends in .raw
        raise _Unreadable from error
    with file:
        step = max(1024, _BLOCK_VALUES // file.channels)
        done = 0
        while True:
            try:
                block = file.read(step, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                damaged = step == 1024
                step = 1024  # damage: go on in small steps to lose as little as possible
                try:
                    file.seek(done)
                except soundfile.LibsndfileError:
                    damaged = True
                if not damaged:
                    continue
                if not done:
                    raise _Unreadable from error
                break
            if not len(block):
                break
            done += len(block)
            yield file.samplerate, block


def _from_ffmpeg(path: str | Path, limits: Limits) -> Blocks:
    """Blocks of the first audio track, in its own rate and channels, through a pipe.

    The pipe carries AU, whose 24-byte header tells rate and channels before float32 samples.
    """
    import numpy as np

    command = ["ffmpeg", "-nostdin", "-v", "fatal", "-protocol_whitelist", "file,pipe"]
    command += ["-format_whitelist", _FFMPEG_FORMATS, "-i", f"file:{os.fspath(path)}"]
    command += ["-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1"]
    command += ["-t", f"{limits.max_seconds + 1:.3f}", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    late = threading.Event()
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            raise _Unreadable(f"cannot be read: ffmpeg does not start ({error.strerror})") from error

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(DECODE_SECONDS, give_up)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None
            header = process.stdout.read(24)
            if len(header) == 24:
                _, offset, _, _, rate, channels = struct.unpack(">4s5I", header)
                process.stdout.read(offset - 24)
                frame = 4 * channels
                while data := process.stdout.read(max(1, _BLOCK_VALUES // channels) * frame):
                    data = data[: len(data) // frame * frame]
                    yield rate, np.frombuffer(data, ">f4").astype(np.float32).reshape(-1, channels)
        finally:
            timer.cancel()
            process.kill()
            process.communicate()
        if late.is_set():
            raise _too_slow(printable(Path(path).name))
        if len(header) < 24:
            errors.seek(0)
            raise _Unreadable("has no audio track" if b"matches no streams" in errors.read(10_000) else "")


def _check_rate(rate: int, what: str) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"{what} is {rate} Hz.", f"Use audio between {MIN_RATE} and {MAX_RATE} Hz.")


def _check_size(size: int, name: str, limits: Limits) -> None:
    if not size:
        raise AudioError(f"{name} is empty (0 bytes).", "Record or export it again.")
    if size > limits.max_bytes:
        raise AudioError(
            f"{name} has {size / 1e6:.1f} MB, the limit is {limits.max_bytes / 1e6:g} MB.",
            "Compress it (for example to FLAC or MP3), cut it into parts, or raise CANARY_HUB_MAX_FILE_MB.",
        )


def _file_size(path: str | Path, name: str) -> int:
    """Size in bytes of a regular file that may be read; `AudioError` for anything else."""
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise AudioError(f"{name} is a folder.", "Name the audio files inside it.")
        if not stat.S_ISREG(found.st_mode):
            raise AudioError(f"{name} is not a regular file.", "Save the audio to a file first.")
        with open(path, "rb"):
            return found.st_size
    except FileNotFoundError:
        raise AudioError(f"There is no file {name}.", "Check the path; only local files are read.") from None
    except PermissionError:
        raise AudioError(f"{name} may not be read.", "Check the file's permissions.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{name} cannot be opened: {reason}.", "Check the path.") from None


def _too_slow(name: str) -> AudioError:
    return AudioError(f"Decoding {name} took longer than {DECODE_SECONDS:g} seconds.", "Cut it into parts.")
