"""Perturbations keep their promises about length, range and repeatability."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from canary_hub_train import augment
from canary_hub_train.data import Mix, Speech, Steps
from canary_hub_train.digits import HELD_OUT, Recordings
from canary_hub_train.phones import PAUSE


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


def test_a_speaker_changes_pitch_and_tempo_each_on_its_own(wav: np.ndarray) -> None:
    out = augment.Speaker(pitch=1.25, tempo=0.8).say(wav)
    assert len(out) == pytest.approx(len(wav) / 0.8, rel=0.06)
    inner = out[1500:-1500]
    peak = np.fft.rfftfreq(len(inner), 1 / 16_000)[np.abs(np.fft.rfft(inner)).argmax()]
    assert peak == pytest.approx(250, abs=8)


@pytest.mark.parametrize("seed", range(8))
def test_the_channel_keeps_length_and_stays_finite(wav: np.ndarray, seed: int) -> None:
    out = augment.channel_like(wav, np.random.default_rng(seed))
    assert (out.shape, out.dtype) == (wav.shape, np.float32)
    assert np.abs(out).max() <= 1.001  # nan would fail, too
    again = augment.channel_like(wav, np.random.default_rng(seed))
    assert np.array_equal(out, again)


def test_music_has_the_length_asked_for() -> None:
    for seed in range(20):
        out = augment.music(30_000, np.random.default_rng(seed))
        assert (out.shape, out.dtype) == ((30_000,), np.float32)
        assert np.isfinite(out).all()


def test_background_has_the_length_asked_for() -> None:
    for seed in range(12):
        out = augment.background(5000, np.random.default_rng(seed))
        assert out.shape == (5000,)
        assert np.isfinite(out).all()


def speech_of(wav: np.ndarray, folder: Path) -> Speech:
    """One rendered utterance, whose two words are as loud as they last, and two people's digits."""
    shard = folder / "digits-seen-00000.npy"
    pcm = np.concatenate([np.full(4000, 8000), np.zeros(4000), np.full(8000, 8000)]).astype(np.int16)
    np.save(shard, pcm)
    row = {"text": "one two", "start": 0, "length": 16_000, "phones": [1, PAUSE, 2], "ends": [0.25, 0.5, 1.0]}
    shard.with_suffix(".json").write_text(json.dumps([row]))
    return Speech([shard], Recordings({name: [[wav[:6000]] for _ in range(10)] for name in ("a", "b")}))


MIX = Mix(longest=2.0, seconds=8)


def test_a_batch_is_a_function_of_its_seed_and_never_too_long(wav: np.ndarray, tmp_path: Path) -> None:
    speech = speech_of(wav, tmp_path)
    for step in range(10):
        one, two = speech.batch(MIX, (1, step)), speech.batch(MIX, (1, step))
        assert np.array_equal(one.wav, two.wav)
        assert one.texts == two.texts
        assert one.lengths.max() <= 2.0 * 16_000
        assert len(one.texts) == len(one.wav) == len(one.lengths)


def test_phones_move_with_the_sound(tmp_path: Path, wav: np.ndarray) -> None:
    """However a clip is slowed, padded and joined to others, what is said to be a phone is loud and a pause is not."""
    speech = speech_of(wav, tmp_path)
    mix = replace(MIX, human=0, empty=0, channel=0, speaker=1, longest=6.0, seconds=20)
    seen = 0
    for step in range(12):
        for said in speech.batch(mix, (3, step)).spoken:
            assert said.phones is not None
            assert said.ends is not None
            start = 0.0
            for phone, end in zip(said.phones, said.ends, strict=True):
                middle = said.wav[
                    int((start + 0.3 * (end - start)) * 16_000) : int((start + 0.7 * (end - start)) * 16_000)
                ]
                if end - start > 0.1 and len(middle):
                    loud = float(np.abs(middle).mean())
                    assert loud < 0.05 if phone == PAUSE else loud > 0.1
                    seen += 1
                start = end
    assert seen > 100


def test_the_held_out_person_is_heard_only_where_everyone_is(tmp_path: Path, wav: np.ndarray) -> None:
    speech_of(wav, tmp_path)
    loud = {"a": 0.1, HELD_OUT: 0.9}
    takes = {name: [[np.full(4000, level, np.float32)] for _ in range(10)] for name, level in loud.items()}
    speech = Speech([tmp_path / "digits-seen-00000.npy"], Recordings(takes))
    for everyone, loudest in ((False, 0.1), (True, 0.9)):
        mix = replace(MIX, human=1, empty=0, channel=0, speaker=0, everyone=everyone, plain=True)
        found = max(speech.batch(mix, (4, step)).wav.max() for step in range(8))
        assert found == pytest.approx(loudest, abs=0.01)


def test_batches_made_ahead_are_the_same() -> None:
    """In a process of its own: the one that makes batches ahead forks, which a process full of servers may not."""
    done = subprocess.run([sys.executable, __file__], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0


if __name__ == "__main__":
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(speech_of(noise, Path(folder)), MIX, (1,), 0, 1)
    for ahead, here in zip(steps.iterate(2, 6, workers=2), steps.iterate(2, 6), strict=True):
        assert np.array_equal(ahead.wav, here.wav)
