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
from canary_hub.audio.waveform import Waveform
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
        clip, _ = soundfile.read(Path(__file__).parents[1] / "digits" / f"{word}.flac")
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


def test_the_example_clips_of_the_page_are_transcribed(nano: Stack) -> None:
    from canary_hub.ui.transcribe.tab import EXAMPLE, SENTENCE

    assert nano.transcribe(EXAMPLE).text == "three one four one five nine"
    assert nano.transcribe(SENTENCE).text == "the children were playing in the garden when the rain began"


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


def tune(seed: int, seconds: float = 6.0) -> Waveform:
    """A tune over a bass, in square waves with a tremolo: music as training does not make it."""
    rng = np.random.default_rng(seed)
    beat = int(RATE * rng.uniform(0.2, 0.6))
    samples = np.zeros(int(seconds * RATE))
    for start in range(0, len(samples) - beat, beat):
        time = np.arange(beat) / RATE
        for octave, loud in ((220, 0.2), (55, 0.3)):
            pitch = octave * 2 ** (rng.choice((0, 3, 5, 7, 10)) / 12)
            note = np.sign(np.sin(2 * np.pi * pitch * time)) * (1 + 0.3 * np.sin(2 * np.pi * 6 * time))
            samples[start : start + beat] += loud * note * np.exp(-time / 0.4)
    return Waveform(samples.astype(np.float32), RATE, f"tune {seed}")


def test_music_gives_next_to_nothing(nano: Stack) -> None:
    heard = [nano.transcribe(tune(seed)).text for seed in range(6)]
    assert sum(len(text.split()) for text in heard) <= 3, heard


def test_two_minutes_are_transcribed_by_segments(nano: Stack) -> None:
    parts, words = [], []
    while sum(map(len, parts)) < 120 * RATE:
        wave, said, _ = spoken(len(parts))
        parts.append(wave.samples)
        words += said
    result = nano.transcribe(Waveform(np.concatenate(parts), RATE, "two minutes"))
    assert len(result.segments) >= 15
    assert all(segment.end - segment.start <= 8 for segment in result.segments)
    assert jiwer.wer(" ".join(words), result.text) < 0.2


def test_the_embedded_checkpoint_is_small_and_in_the_published_layout(nano: Stack) -> None:
    from canary_hub.models.nano.plugin import FOLDER

    assert (FOLDER / "model.safetensors").stat().st_size <= 12_000_000
    assert {p.name for p in FOLDER.iterdir()} >= {"config.json", "model.safetensors", "llm", "MODEL_CARD.md"}


def test_both_lora_forms_agree(hub: Hub, nano: Stack) -> None:
    from canary_hub.specs import Stage

    live = hub.load("nano", components={Stage.LLM: "canary/qwen3-peft"}, device="cpu")
    for seed in range(5):
        wave, _, _ = spoken(seed)
        assert live.transcribe(wave).text == nano.transcribe(wave).text
