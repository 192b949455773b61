"""Silero's cuts on noisy speech with known pauses, next to those of the energy segmenter."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from canary_hub_silero_vad.vad import FRAME, LEAD, SileroVad, build

from canary_hub import Hub
from canary_hub.audio.decode import load_audio
from canary_hub.audio.pauses import Segmenter, quietest, split_at_pauses
from canary_hub.audio.waveform import Waveform

ROOT = Path(__file__).parents[3]
PLUGINS = ROOT / "plugins"
RATE = 16_000
WINDOW = 12.0


@dataclass(frozen=True)
class Clip:
    """Spoken digits in noise. words, pauses: (start, end) in seconds; words follow each other without a gap."""

    samples: np.ndarray
    words: list[tuple[float, float]]
    pauses: list[tuple[float, float]]

    def wave(self, rate: int = RATE) -> Waveform:
        return load_audio((RATE, self.samples), rate, name="noisy")


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return build()


@pytest.fixture(scope="module")
def clip() -> Clip:
    """A minute: a pause of 0.8 s every 4 s, which a street fills: its noise swells to louder than the speech."""
    rng = np.random.default_rng(0)
    digits = [load_audio(path, RATE).samples for path in sorted((ROOT / "tests" / "digits").glob("*.flac"))]
    pieces, noise_level, words, pauses = [], [], [], []
    now = 0.0
    while now < 60.0:
        until = now + 4.0
        while now < until:
            digit = digits[rng.integers(len(digits))]
            heard = np.flatnonzero(np.abs(digit) > 0.01)
            digit = digit[heard[0] : heard[-1] + 1]
            pieces.append(digit)
            noise_level.append(np.full(len(digit), 0.03))
            words.append((now, now + len(digit) / RATE))
            now = words[-1][1]
        pieces.append(np.zeros(round(0.8 * RATE), np.float32))
        noise_level.append(np.full(len(pieces[-1]), 0.2))
        pauses.append((now, now + 0.8))
        now += 0.8
    speech = np.concatenate(pieces)
    speech *= 0.1 / np.sqrt(np.mean(speech**2))
    spectrum = np.fft.rfft(rng.standard_normal(len(speech)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))  # pink: as strong in every octave
    street = np.fft.irfft(spectrum, len(speech))
    smooth = np.ones(800) / 800  # it takes 50 ms to swell
    street *= np.convolve(np.concatenate(noise_level), smooth, "same") / street.std()
    return Clip((speech + street).astype(np.float32), words, pauses)


def cuts(wave: Waveform, segmenter: Segmenter, window: float = WINDOW) -> list[float]:
    return [span.end for span in split_at_pauses(wave, window, segmenter, "silero/vad")[:-1]]


def inside(time: float, stretches: list[tuple[float, float]], margin: float) -> bool:
    return any(start + margin <= time <= end - margin for start, end in stretches)


def test_it_cuts_in_loud_pauses_where_the_energy_cuts_words(clip: Clip, vad: SileroVad) -> None:
    wave = clip.wave()
    by_energy, by_silero = cuts(wave, quietest), cuts(wave, vad)
    assert len(by_energy) >= 5
    assert not any(inside(cut, clip.pauses, -0.1) for cut in by_energy)
    assert all(inside(cut, clip.words, 0.0) for cut in by_energy)
    assert sum(inside(cut, clip.words, 0.03) for cut in by_energy) >= 4  # not at a word's edge either
    assert len(by_silero) >= 5
    assert all(inside(cut, clip.pauses, 0.05) for cut in by_silero)
    assert not any(inside(cut, clip.words, 0.0) for cut in by_silero)


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_other_rates_are_cut_in_the_pauses_too(clip: Clip, vad: SileroVad, rate: int) -> None:
    found = cuts(clip.wave(rate), vad)
    assert len(found) >= 5
    assert all(inside(cut, clip.pauses, 0.0) for cut in found)


def test_a_stack_uses_it_by_name_alone(clip: Clip) -> None:
    hub = Hub(PLUGINS, allow=["silero_vad"])
    assert [record.error for record in hub.records if record.name == "silero_vad"] == [""]
    assert hub.stack("nano").segmenter == "canary/energy"
    short = Waveform(clip.samples[: 30 * RATE], RATE, "noisy")
    with hub.load(hub.stack("nano", window=WINDOW, segmenter="silero/vad"), device="cpu") as stack:
        result = stack.transcribe(short, max_new_tokens=1)
    starts = [segment.start for segment in result.segments]
    assert len(starts) >= 3
    assert all(inside(start, clip.pauses, 0.05) for start in starts[1:])
    assert all(a.end == b.start for a, b in pairwise(result.segments))


def test_the_longest_pause_wins(vad: SileroVad) -> None:
    nine = load_audio(ROOT / "tests" / "digits" / "nine.flac", RATE).samples
    rest = np.zeros(round(0.3 * RATE), np.float32)
    long = np.zeros(round(0.9 * RATE), np.float32)
    parts = [nine, rest] * 6 + [nine, long] + [nine, rest] * 6
    before = sum(map(len, parts[:13]))
    wave = Waveform(np.concatenate(parts), RATE, "nines")
    cut = vad(wave, before - 2 * RATE, before + 3 * RATE)
    assert 0.2 < (cut - before) / RATE < 0.8


def test_silence_and_unbroken_speech_are_cut_within_reach(clip: Clip, vad: SileroVad) -> None:
    silence = Waveform(np.zeros(10 * RATE, np.float32), RATE, "silence")
    assert cuts(silence, vad, 8.0) == pytest.approx([7.0], abs=0.05)
    assert split_at_pauses(Waveform(np.zeros(0, np.float32), RATE, "nothing"), 8.0, vad) == []
    start, end = clip.pauses[0][1], clip.pauses[1][0]
    first, last = round((start + 1) * RATE), round((end - 1) * RATE)
    assert first <= vad(clip.wave(), first, last) <= last
    assert vad(clip.wave(), first, first) == first


@pytest.mark.parametrize("rate", [1000, 11025, 44100])
@pytest.mark.parametrize("window", [0.1, 0.33, 1.0])
def test_small_windows_and_odd_rates_tile_too(vad: SileroVad, rate: int, window: float) -> None:
    samples = np.random.default_rng(0).standard_normal(rate * 3 + 7).astype(np.float32)
    spans = split_at_pauses(Waveform(samples, rate, "noise"), window, vad)
    assert sum(span.stop - span.first for span in spans) == len(samples)


def test_of_hours_only_what_is_in_reach_is_heard(vad: SileroVad) -> None:
    lengths = []

    class Counting:
        def audio_forward(self, samples: np.ndarray) -> np.ndarray:
            lengths.append(len(samples))
            return np.zeros(-(-len(samples) // FRAME), np.float32)

    hours = Waveform(np.broadcast_to(np.float32(0.1), 3 * 3600 * RATE), RATE, "hours")
    spans = split_at_pauses(hours, 40.0, SileroVad(Counting()))
    assert spans[-1].stop == len(hours.samples)
    assert len(lengths) == len(spans) - 1
    assert max(lengths) <= (40.0 / 4 + LEAD) * RATE


def test_threads_share_it(clip: Clip, vad: SileroVad) -> None:
    wave = clip.wave()
    places = [(round(start * RATE), round((start + 3) * RATE)) for start in np.linspace(3, 50, 12)]
    alone = [vad(wave, first, last) for first, last in places]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda place: vad(wave, *place), places * 3)) == alone * 3


def test_torch_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "silero_vad"]:
        monkeypatch.delitem(sys.modules, name)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        build()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
