"""Stack nano does its job: digits in, words out, word starts where the words start, silence empty.

The digits in tests/digits are of the text-to-speech voice flite slt.
"""

from __future__ import annotations

import random
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile

from canary_hub import Done, Hub
from canary_hub.audio import Waveform
from canary_hub.pipeline import Stack

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
RATE = 16000


@pytest.fixture(scope="module")
def nano(hub: Hub) -> Stack:
    return hub.load("nano", device="cpu")


def spoken(seed: int) -> tuple[Waveform, list[str], list[float]]:
    """A string of 3 to 6 digits with pauses of known length: audio, words, and where each begins."""
    rng = random.Random(seed)
    words = rng.choices(DIGITS, k=rng.randint(3, 6))
    parts, starts, at = [], [], 0
    for word in words:
        pause = np.zeros(int(RATE * rng.uniform(0.15, 0.4)))
        clip, _ = soundfile.read(Path(__file__).parent / "digits" / f"{word}.flac")
        starts.append((at + len(pause)) / RATE)
        at += len(pause) + len(clip)
        parts += [pause, clip]
    samples = np.concatenate([*parts, np.zeros(RATE // 5)])
    noise = np.random.default_rng(seed).normal(scale=1e-3, size=len(samples))
    return Waveform((samples + noise).astype(np.float32), RATE, f"digits {seed}"), words, starts


def test_digit_strings_are_transcribed(nano: Stack) -> None:
    strings = [spoken(seed) for seed in range(30)]
    heard = [event.result.text for event in nano.run([wave for wave, _, _ in strings]) if isinstance(event, Done)]
    assert jiwer.wer([" ".join(words) for _, words, _ in strings], heard) < 0.15


def test_it_listens(nano: Stack) -> None:
    """The same transcripts against other audio are wrong: the words come from what is heard."""
    strings = [spoken(seed) for seed in range(12)]
    heard = [nano.transcribe(wave).text for wave, _, _ in strings]
    truth = [" ".join(words) for _, words, _ in strings]
    assert jiwer.wer(truth, heard[1:] + heard[:1]) > 0.6


def test_word_starts_are_within_120_ms(nano: Stack) -> None:
    errors = []
    for seed in range(40):
        wave, words, starts = spoken(seed)
        done = next(e for e in nano.stream(wave, details=True) if isinstance(e, Done))
        found = [word for segment in done.result.trace.segments for word in segment.words]
        if [word.text for word in found] == words:
            errors += [abs(word.start - start) for word, start in zip(found, starts, strict=True)]
    assert len(errors) > 80
    assert np.median(errors) <= 0.12


def test_silence_and_noise_give_next_to_nothing(nano: Stack) -> None:
    silence = Waveform(np.zeros(3 * RATE, np.float32), RATE, "silence")
    assert nano.transcribe(silence).text == ""
    noise = np.random.default_rng(0).normal(scale=0.02, size=3 * RATE).astype(np.float32)
    assert len(nano.transcribe(Waveform(noise, RATE, "noise")).text.split()) <= 1


def test_the_embedded_checkpoint_is_small_and_in_the_published_layout(nano: Stack) -> None:
    from canary_hub.builtin.nano import FOLDER

    assert (FOLDER / "model.safetensors").stat().st_size <= 12_000_000
    assert {p.name for p in FOLDER.iterdir()} >= {"config.json", "model.safetensors", "llm", "MODEL_CARD.md"}


def test_both_lora_forms_agree(hub: Hub, nano: Stack) -> None:
    from canary_hub.specs import Stage

    live = hub.load("nano", components={Stage.LLM: "canary/qwen3-peft"}, device="cpu")
    for seed in range(5):
        wave, _, _ = spoken(seed)
        assert live.transcribe(wave).text == nano.transcribe(wave).text
