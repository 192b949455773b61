"""Perturbations keep their promises about length, range and repeatability."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from canary_hub_train import augment
from canary_hub_train.data import Mix, Speech, Steps
from canary_hub_train.digits import Recordings


@pytest.fixture
def wav() -> np.ndarray:
    return np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000).astype(np.float32)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_lengths_follow_the_factor(wav: np.ndarray, factor: float) -> None:
    assert len(augment.resampled(wav, factor)) == pytest.approx(len(wav) / factor, rel=0.01)
    assert len(augment.stretched(wav, factor)) == pytest.approx(len(wav) / factor, rel=0.05)


def test_stretching_keeps_the_pitch(wav: np.ndarray) -> None:
    out = augment.stretched(wav, 1.25)[1000:-1000]
    peak = np.fft.rfftfreq(len(out), 1 / 16_000)[np.abs(np.fft.rfft(out)).argmax()]
    assert peak == pytest.approx(200, abs=8)


def test_moving_the_formants_keeps_length_and_pitch() -> None:
    rng = np.random.default_rng(0)
    pulses = np.zeros(16_000, np.float32)
    pulses[::133] = 1  # 120 Hz
    time = np.arange(200) / 16_000
    voice = np.convolve(pulses, np.exp(-time * 400) * np.sin(2 * np.pi * 700 * time))[:16_000].astype(np.float32)
    voice += 1e-4 * rng.standard_normal(16_000).astype(np.float32)

    def strongest(wav: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(wav)) ** 2
        return float((power * np.fft.rfftfreq(len(wav), 1 / 16_000)).sum() / power.sum())

    moved = augment.formants_moved(voice, 1.3)
    assert moved.shape == voice.shape
    assert strongest(moved) > 1.15 * strongest(voice)
    again = np.correlate(moved, moved, "full")[16_000 - 1 :]
    assert 100 + again[100:200].argmax() == pytest.approx(133, abs=1)
    assert np.allclose(augment.formants_moved(voice, 1.0)[600:-600], voice[600:-600], atol=1e-3)


@pytest.mark.parametrize("seed", range(8))
def test_the_channel_keeps_length_and_stays_finite(wav: np.ndarray, seed: int) -> None:
    out = augment.channel_like(wav, np.random.default_rng(seed))
    assert (out.shape, out.dtype) == (wav.shape, np.float32)
    assert np.abs(out).max() <= 1.001  # nan would fail, too
    again = augment.channel_like(wav, np.random.default_rng(seed))
    assert np.array_equal(out, again)


def test_background_has_the_length_asked_for() -> None:
    for seed in range(12):
        out = augment.background(5000, np.random.default_rng(seed))
        assert out.shape == (5000,)
        assert np.isfinite(out).all()


def speech_of(wav: np.ndarray) -> Speech:
    """One rendered utterance, and two people's digits."""
    speech = Speech([], Recordings({name: [[wav[:6000]] for _ in range(10)] for name in ("a", "b")}))
    speech._rows, speech._lengths, speech._pcm = (
        [(16_000, 0, 0, "one two")],
        np.array([16_000]),
        [np.zeros(16_000, np.int16)],
    )
    return speech


MIX = Mix(longest=2.0, seconds=8)


def test_a_batch_is_a_function_of_its_seed_and_never_too_long(wav: np.ndarray) -> None:
    speech = speech_of(wav)
    for step in range(10):
        one, two = speech.batch(MIX, (1, step)), speech.batch(MIX, (1, step))
        assert np.array_equal(one.wav, two.wav)
        assert one.texts == two.texts
        assert one.lengths.max() <= 2.0 * 16_000
        assert len(one.texts) == len(one.wav) == len(one.lengths)


def test_batches_made_ahead_are_the_same() -> None:
    """In a process of its own: the one that makes batches ahead forks, which a process full of servers may not."""
    done = subprocess.run([sys.executable, __file__], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0


if __name__ == "__main__":
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    steps = Steps(speech_of(noise), MIX, (1,), 0, 1)
    for ahead, here in zip(steps.iterate(2, 6, workers=2), steps.iterate(2, 6), strict=True):
        assert np.array_equal(ahead.wav, here.wav)
