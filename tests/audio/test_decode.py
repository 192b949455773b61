from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from itertools import pairwise
from math import gcd
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from canary_hub.audio import decode
from canary_hub.audio.decode import Limits, load_audio
from canary_hub.audio.pauses import is_silent, split_at_pauses
from canary_hub.audio.resample import Resampler
from canary_hub.audio.waveform import Waveform
from canary_hub.errors import AudioError, HubError, OptionError

ORACLE = Path(__file__).parents[1] / "oracle" / "set_a"
RATE = 16000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def tone(seconds: float = 1.0, rate: int = RATE, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(count: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(count) * level).astype(np.float32)


def refused(source: object, *parts: str, **options: object) -> AudioError:
    """The `AudioError` that `source` must give, holding each of `parts` and a remedy."""
    with pytest.raises(AudioError) as caught:
        load_audio(source, **options)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.hint
    return caught.value


# Decoding


@pytest.mark.parametrize(
    ("format", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 1 / 127),
        ("WAV", "PCM_16", 1 / 32000),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("WAV", "ULAW", 0.02),
        ("FLAC", "PCM_16", 1 / 32000),
        ("AIFF", "PCM_24", 1e-6),
        ("OGG", "VORBIS", 0.05),
        ("MP3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_reads_what_libsndfile_reads(tmp_path: Path, format: str, subtype: str, tolerance: float) -> None:
    path = tmp_path / f"tone.{format.lower()}"
    soundfile.write(path, tone(), RATE, subtype=subtype, format=format)
    wave = load_audio(path)
    assert (wave.rate, wave.name, wave.samples.dtype) == (RATE, path.name, np.float32)
    assert wave.samples.shape == (RATE,)
    assert wave.seconds == 1.0
    assert np.abs(wave.samples - tone())[800:-800].max() <= tolerance


def test_bytes_string_and_path_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(5000), 22050)
    expected = load_audio(path).samples
    assert np.array_equal(load_audio(str(path)).samples, expected)
    assert np.array_equal(load_audio(path.read_bytes()).samples, expected)
    assert load_audio(path.read_bytes(), name="x.flac").name == "x.flac"


@pytest.mark.parametrize("channels", [2, 10])
def test_downmix_is_the_mean_of_the_channels(tmp_path: Path, channels: int) -> None:
    columns = np.stack([noise(3000, seed) for seed in range(channels)], axis=1)
    soundfile.write(tmp_path / "many.wav", columns, RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "many.wav").samples, columns.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize(
    ("dtype", "silence", "half"),
    [
        ("uint8", 128, 192),
        ("int8", 0, 64),
        ("int16", 0, 2**14),
        ("uint16", 2**15, 3 * 2**14),
        ("int32", 0, 2**30),
        ("float32", 0, 0.5),
        ("float64", 0, 0.5),
    ],
)
def test_arrays_as_gradio_gives_them(dtype: str, silence: float, half: float) -> None:
    mono = np.array([silence, half, silence], dtype)
    assert load_audio((RATE, mono)).samples.tolist() == [0.0, 0.5, 0.0]
    stereo = np.stack([mono, np.full(3, silence, dtype)], axis=1)
    assert load_audio((RATE, stereo)).samples.tolist() == [0.0, 0.25, 0.0]


def test_arrays_are_resampled_like_files(tmp_path: Path) -> None:
    samples = np.round(noise(44100) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 44100)
    assert np.array_equal(load_audio((44100, samples)).samples, load_audio(tmp_path / "a.wav").samples)


def test_several_blocks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([noise(50_000)] * 2, axis=1), 44100, subtype="FLOAT")
    whole = load_audio(tmp_path / "a.wav").samples
    monkeypatch.setattr(decode, "_BLOCK_VALUES", 6000)
    assert np.abs(load_audio(tmp_path / "a.wav").samples - whole).max() < 1e-6


@needs_ffmpeg
@pytest.mark.parametrize(
    ("suffix", "codec", "source_rate"),
    [("m4a", "aac", 44100), ("mp4", "aac", 22050), ("webm", "libopus", 48000), ("mkv", "pcm_s16le", 8000)],
)
def test_ffmpeg_reads_the_rest(tmp_path: Path, suffix: str, codec: str, source_rate: int) -> None:
    source, path = tmp_path / "a.wav", tmp_path / f"a.{suffix}"
    soundfile.write(source, np.stack([tone(2, source_rate), tone(2, source_rate, level=0.1)], axis=1), source_rate)
    made = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", source, "-c:a", codec, path], check=False)
    if made.returncode:
        pytest.skip(f"this ffmpeg cannot write {codec}")
    for given in (path, path.read_bytes()):
        samples = load_audio(given).samples
        assert len(samples) / RATE == pytest.approx(2, abs=0.1)
        middle = samples[RATE // 2 : 3 * RATE // 2]
        assert np.abs(np.fft.rfft(middle)).argmax() == 440
        assert np.abs(middle).max() == pytest.approx(0.3, abs=0.03)
    error = refused(path, path.name, "longer than the limit of 1 s", limits=Limits(max_seconds=1))
    assert "CANARY_HUB_MAX_SECONDS" in error.hint


@needs_ffmpeg
def test_video_without_sound_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "mute.mp4"
    picture = ["-f", "lavfi", "-i", "color=c=black:s=32x32:d=1"]
    if subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *picture, path], check=False).returncode:
        pytest.skip("this ffmpeg cannot write mp4")
    refused(path, "mute.mp4 has no audio track")


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["m3u8", "ffconcat"])
def test_a_playlist_cannot_reach_other_files(tmp_path: Path, kind: str) -> None:
    soundfile.write(tmp_path / "secret.mp3", tone(), RATE)
    lists = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{tmp_path}/secret.mp3\n#EXT-X-ENDLIST\n",
        "ffconcat": "ffconcat version 1.0\nfile 'secret.mp3'\n",
    }
    path = tmp_path / f"list.{kind}"
    path.write_text(lists[kind])
    refused(path, path.name)


def test_without_ffmpeg_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "voice.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    refused(path, "voice.m4a", "install ffmpeg")


# Resampling


@pytest.mark.parametrize("source_rate", [8000, 22050, 44100, 48000])
def test_resampling_equals_the_reference_waveforms(source_rate: int) -> None:
    from safetensors.numpy import load_file

    expected = load_file(ORACLE / "golden" / "resample.safetensors")[f"wave_{source_rate}"]
    samples = load_audio(ORACLE / "audio" / f"rate{source_rate}.wav").samples
    assert samples.shape == expected.shape
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)


def resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    resampler = Resampler(source, target)
    return np.concatenate([resampler.feed(samples), resampler.finish()])


@pytest.mark.parametrize("rates", [(8000, 16000), (44100, 16000), (11025, 16000), (48000, 16000), (16000, 22050)])
def test_resampling_equals_scipys(rates: tuple[int, int]) -> None:
    samples = noise(9001)
    divisor = gcd(*rates)
    expected = resample_poly(samples, rates[1] // divisor, rates[0] // divisor)
    got = resample(samples, *rates)
    assert 0 <= len(expected) - len(got) <= 1
    np.testing.assert_allclose(got, expected[: len(got)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rates", [(44100, 16000), (44101, 16000), (8000, 16000), (1000, 16000), (192000, 16000)])
def test_a_stream_gives_what_the_whole_gives(rates: tuple[int, int]) -> None:
    samples = noise(20_000)
    resampler = Resampler(*rates)
    parts = [resampler.feed(part) for part in np.split(samples, [1, 1, 6, 3000, 3017, 19_999])]
    stream = np.concatenate([*parts, resampler.finish()])
    assert len(stream) == (2 * 20_000 * rates[1] + rates[0]) // (2 * rates[0])
    np.testing.assert_allclose(stream, resample(samples, *rates), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("count", "length"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (48_001, 16_000), (7, 2)])
def test_resampled_length_is_rounded_half_up_and_never_zero(count: int, length: int) -> None:
    assert load_audio((48000, np.ones(count, np.float32))).samples.shape == (length,)


@pytest.mark.parametrize("rate", [10, 999, 768_001, 0, -1])
def test_an_absurd_rate_is_refused(rate: int) -> None:
    refused((rate, np.ones(10, np.float32)), f"{rate} Hz", "1000")


# Bad input


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello world, I am a text\n" * 400, "no audio"),
        (b"RIFF\x24\x00\x00\x00WAVEfm", "no audio"),
        (bytes(5000), "no audio"),
        (b"\xff\xfb\x90\x00" + b"ID3 but not really" * 50, ""),
    ],
)
@pytest.mark.parametrize("suffix", ["wav", "raw", "mp3"])
def test_files_that_are_no_audio(tmp_path: Path, content: bytes, said: str, suffix: str) -> None:
    path = tmp_path / f"odd.{suffix}"
    path.write_bytes(content)
    error = refused(path, "odd." + suffix, said)
    assert str(tmp_path) not in str(error)
    refused(content, "the upload", said)


def test_places_that_hold_no_audio(tmp_path: Path) -> None:
    refused(tmp_path / "gone.wav", "no file gone.wav")
    refused(tmp_path, f"{tmp_path.name} is a folder")
    refused("a\0b.wav", "a\\x00b.wav")
    refused("x" * 5000, "cannot be opened")
    refused(None, "NoneType")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", "not a regular file")


def test_a_name_with_control_characters_is_shown_escaped(tmp_path: Path) -> None:
    error = refused(tmp_path / "a\x1b[31m\n\u202egpj.wav", "a\\x1b[31m\\n\\u202egpj.wav")
    assert "\x1b" not in str(error)
    undecodable = os.fsencode(tmp_path) + b"/\xff.wav"
    if sys.platform == "linux":
        soundfile.write(undecodable, tone(0.1), RATE)
        assert load_audio(os.fsdecode(undecodable)).name == "\\udcff.wav"


def test_a_file_without_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    refused(tmp_path / "none.wav", "none.wav holds no samples")
    refused((RATE, np.zeros(0, np.int16)), "holds no samples")
    refused((RATE, np.zeros((0, 2))), "holds no samples")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_numbers_are_named_with_their_time(tmp_path: Path, bad: float) -> None:
    samples = noise(RATE)
    samples[4000] = bad
    soundfile.write(tmp_path / "bad.wav", samples, RATE, subtype="FLOAT")
    refused(tmp_path / "bad.wav", "bad.wav", "at 0.25 s")
    refused((RATE, samples), "at 0.25 s")
    refused((RATE, np.array([1e300])), "inf")


@pytest.mark.parametrize(
    "source",
    [
        (RATE, np.zeros((4, 4, 4))),
        (RATE, np.zeros((2, 16000), np.float32)),
        (RATE, np.array(1.0)),
        (RATE, np.array(["a"])),
        (RATE, np.zeros(4, bool)),
        (RATE, np.zeros(4, complex)),
        (16000.5, np.zeros(4)),
        (float("nan"), np.zeros(4)),
        ("16000", np.zeros(4)),
        (RATE, np.zeros(4), 1),
    ],
)
def test_arrays_that_are_no_audio(source: object) -> None:
    refused(source, "the recording")


@pytest.mark.parametrize(("suffix", "share"), [("wav", 0.5), ("flac", 0.5), ("flac", 0.05), ("mp3", 0.5), ("ogg", 0.7)])
def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, noise(20 * RATE), RATE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert load_audio(path).seconds == pytest.approx(20 * share, rel=0.15, abs=0.3)  # a FLAC frame is 0.26 s


def test_flac_of_unknown_length_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no ffmpeg to fall back on
    path = tmp_path / "streamed.flac"
    soundfile.write(path, noise(3 * RATE), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # STREAMINFO: 36 bits of total samples, 0 is unknown
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert load_audio(path).seconds == 3


def test_very_short_and_silent_audio_is_no_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", tone(0.01), RATE)
    assert load_audio(tmp_path / "short.wav").seconds == 0.01
    soundfile.write(tmp_path / "silent.flac", np.zeros(60 * RATE), RATE)
    assert is_silent(load_audio(tmp_path / "silent.flac").samples)


# Limits


def test_too_many_bytes_and_too_many_seconds(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.stack([noise(30_000)] * 2, axis=1), 8000)
    assert load_audio(path, limits=Limits(path.stat().st_size, 3.75)).seconds == 3.75
    refused(path, "long.wav", "MB", "CANARY_HUB_MAX_FILE_MB", limits=Limits(max_bytes=path.stat().st_size - 1))
    refused(path.read_bytes(), "MB", limits=Limits(max_bytes=100))
    refused(path, "long.wav", "3.7 s", "CANARY_HUB_MAX_SECONDS", limits=Limits(max_seconds=3.7))
    refused((8000, noise(30_000)), "3.7 s", limits=Limits(max_seconds=3.7))


def test_decoding_stops_at_the_limit_instead_of_reading_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", noise(100_000), RATE)
    monkeypatch.setattr(decode, "_BLOCK_VALUES", 2000)
    seen = []
    feed = Resampler.feed
    monkeypatch.setattr(Resampler, "feed", lambda self, part: seen.append(len(part)) or feed(self, part))
    refused(tmp_path / "a.wav", "longer", limits=Limits(max_seconds=1))
    assert sum(seen) <= RATE


def test_decoding_that_takes_forever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "slow.wav", noise(1000), RATE)
    monkeypatch.setattr(decode, "DECODE_SECONDS", -1.0)
    refused(tmp_path / "slow.wav", "slow.wav", "took longer")


@pytest.mark.skipif(os.name == "nt", reason="needs a shell script as ffmpeg")
def test_an_ffmpeg_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(decode, "DECODE_SECONDS", 0.5)
    (tmp_path / "a.webm").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
    threads, started = threading.active_count(), time.monotonic()
    refused(tmp_path / "a.webm", "a.webm", "took longer")
    assert time.monotonic() - started < 10
    assert threading.active_count() <= threads + 1


def test_limits_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CANARY_HUB_MAX_FILE_MB", "CANARY_HUB_MAX_SECONDS"):
        monkeypatch.delenv(variable, raising=False)
    assert Limits.from_env() == Limits(500_000_000, 4 * 3600)
    monkeypatch.setenv("CANARY_HUB_MAX_FILE_MB", "1.5")
    monkeypatch.setenv("CANARY_HUB_MAX_SECONDS", "2")
    assert Limits.from_env() == Limits(1_500_000, 2.0)
    refused((RATE, noise(3 * RATE)), "limit of 2 s")
    for bad in ("many", "-1", "0", "nan", "inf"):
        monkeypatch.setenv("CANARY_HUB_MAX_SECONDS", bad)
        with pytest.raises(OptionError, match="CANARY_HUB_MAX_SECONDS"):
            Limits.from_env()


# Pauses


def spans_of(samples: np.ndarray, window: float) -> list[tuple[float, float]]:
    """Spans in seconds, checked to tile `samples` with none longer than `window`."""
    wave = Waveform(samples, RATE, "x")
    spans = split_at_pauses(wave, window)
    assert np.array_equal(np.concatenate([span.of(wave) for span in spans]), samples)
    assert all(0 < span.stop - span.first <= window * RATE for span in spans)
    return [(span.start, span.end) for span in spans]


def test_audio_that_fits_is_one_span() -> None:
    assert spans_of(noise(4 * RATE), 4.0) == [(0.0, 4.0)]
    assert split_at_pauses(Waveform(np.zeros(0, np.float32), RATE, "x"), 4.0) == []


def test_cuts_fall_into_the_pauses() -> None:
    samples = noise(100 * RATE)
    pauses = [35.0, 70.5]
    for pause in pauses:
        samples[round((pause - 0.3) * RATE) : round((pause + 0.3) * RATE)] *= 0.01
    samples[15 * RATE : 17 * RATE] = 0  # quieter, but not in a last quarter
    cuts = [end for _, end in spans_of(samples, 40.0)[:-1]]
    assert cuts == pytest.approx(pauses, abs=0.15)


def test_a_short_click_of_silence_does_not_beat_a_real_pause() -> None:
    samples = noise(60 * RATE)
    samples[32 * RATE : 32 * RATE + 160] = 0
    samples[37 * RATE : 37 * RATE + 6400] *= 0.1
    assert spans_of(samples, 40.0)[0][1] == pytest.approx(37.2, abs=0.1)


def test_digital_silence_is_cut_in_its_middle() -> None:
    samples = noise(50 * RATE)
    samples[33 * RATE : 36 * RATE] = 0
    assert spans_of(samples, 40.0)[0][1] == pytest.approx(34.5, abs=0.05)


@pytest.mark.parametrize("seconds", [40.001, 41, 45, 49.9, 50.1, 80.01, 83, 121])
@pytest.mark.parametrize("silent", [True, False])
def test_no_sliver_is_left_at_the_end(seconds: float, silent: bool) -> None:
    count = round(seconds * RATE)
    spans = spans_of(np.zeros(count, np.float32) if silent else noise(count, level=0.01), 40.0)
    assert spans[-1][1] - spans[-1][0] >= 9.99
    assert len(spans) <= seconds / 30 + 1


@pytest.mark.parametrize("rate", [1000, 11025, 16000])
@pytest.mark.parametrize("window", [0.1, 0.33, 1.0])
def test_small_windows_and_odd_rates_tile_too(rate: int, window: float) -> None:
    wave = Waveform(noise(rate * 3 + 7), rate, "x")
    spans = split_at_pauses(wave, window)
    assert spans[0].first == 0
    assert spans[-1].stop == len(wave.samples)
    assert all(left.stop == right.first for left, right in pairwise(spans))
    assert all(0 < span.stop - span.first <= window * rate for span in spans)


@pytest.mark.parametrize("window", [0.0, -1.0, float("nan")])
def test_a_window_of_nothing_is_refused(window: float) -> None:
    with pytest.raises(OptionError):
        split_at_pauses(Waveform(noise(100), RATE, "x"), window)


def test_three_hours_are_split_in_linear_time() -> None:
    wave = Waveform(np.broadcast_to(np.float32(0.1), 3 * 3600 * RATE), RATE, "x")
    started = time.monotonic()
    spans = split_at_pauses(wave, 40.0)
    assert time.monotonic() - started < 10
    assert spans[-1].stop == len(wave.samples)


def test_silence_is_below_sixty_decibels_whatever_the_offset() -> None:
    assert is_silent(np.zeros(0, np.float32))
    assert is_silent(tone(level=0.0009))
    assert not is_silent(tone(level=0.0011))
    assert is_silent(tone(level=0.0009) + np.float32(0.25))


# The module


def test_importing_the_module_is_light() -> None:
    heavy = ("numpy", "scipy", "soundfile", "librosa", "soxr", "torch")
    code = f"import sys, canary_hub.audio.decode; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_are_hub_errors() -> None:
    assert issubclass(AudioError, HubError)
