"""Clips of 1 to 30 s from sentences: how long, in which voice, with which pauses and slips of the tongue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..augment import RATE, Wave
from ..tts import render
from ..voices import FESTIVAL_VOICES, FLITE_VOICES, UNSEEN_FLITE_VOICES, Voice, draw_voice
from . import natural
from .natural import Throat
from .places import Places, other_speaker

LONGEST = 29.5
"""Seconds: what Whisper's encoder can hear at once, less a little."""
_FLITE = (*FLITE_VOICES, *UNSEEN_FLITE_VOICES)


@dataclass
class Clip:
    """Samples (S,) at 16 kHz, and what is said in them."""

    wav: Wave
    text: str
    voice: str
    source: str


@dataclass
class Plan:
    """What a text-to-speech clip shall be, before anything has sounded."""

    sentences: list[str]
    voice: Throat | Voice
    said: list[str] = field(default_factory=list)
    """The sentences with slips: what the program is given; the text stays clean, as Whisper writes it."""


def draw_seconds(rng: np.random.Generator) -> float:
    """Wished length: a third short, a third middling, a third up to 30 s, so that no place in a clip is strange."""
    kind = rng.random()
    if kind < 0.34:
        return 0.0
    return float(rng.uniform(5, 14) if kind < 0.67 else rng.uniform(14, 28))


def slip(sentence: str, rng: np.random.Generator) -> str:
    """The sentence begun twice."""
    given = sentence.split()
    if len(given) < 4:
        return sentence
    count = int(rng.integers(1, min(4, len(given))))
    return " ".join(given[:count]).rstrip(",.;:") + ", " + sentence


def draw_plan(rng: np.random.Generator, sentences: Sequence[str], natural_only: bool = False) -> Plan:
    """Random sentences up to a random length, for a random voice."""
    wished = draw_seconds(rng)
    # espeak's share is small: even Whisper base mishears half the words of its variants.
    engine = 0.0 if natural_only else rng.random()
    voice: Throat | Voice
    if engine < 0.68:
        voice = Throat.draw(rng)
    elif engine < 0.78:
        voice = draw_voice(rng, "espeak")
    elif engine < 0.9:
        voice = Voice("flite", str(rng.choice(_FLITE)), float(rng.uniform(0.8, 1.25)))
    else:
        voice = Voice("festival", str(rng.choice(FESTIVAL_VOICES, p=(0.3, 0.2, 0.5))), float(rng.uniform(0.8, 1.25)))
    plan = Plan([], voice)
    pace = 15 * voice.speed  # characters a second, near enough
    length = 0.0
    while not plan.sentences or length < wished:
        sentence = sentences[int(rng.integers(len(sentences)))]
        length += len(sentence) / pace + 0.5
        if length > LONGEST - 2:
            if plan.sentences:
                break
            length = 0.0
            continue
        plan.sentences.append(sentence)
        plan.said.append(slip(sentence, rng) if rng.random() < 0.03 else sentence)
    return plan


def speak(plans: list[Plan], rng: np.random.Generator) -> list[list[Wave]]:
    """Every sentence of every plan as samples at 16 kHz; empty where a program failed. All of festival's in one go."""
    import soxr

    jobs = [(text, plan.voice) for plan in plans for text in plan.said if isinstance(plan.voice, Voice)]
    clean = [(text.replace("&", " and "), voice) for text, voice in jobs]
    made = iter(render(clean))
    out: list[list[Wave]] = []
    for plan in plans:
        pieces: list[Wave] = []
        for text in plan.said:
            if isinstance(plan.voice, Voice):
                pieces.append(next(made).pcm.astype(np.float32) / 32768)
            else:
                pieces.append(np.asarray(soxr.resample(natural.say(text, plan.voice, rng), 24_000, RATE), np.float32))
        out.append(pieces)
    return out


def joined(pieces: Sequence[Wave], rng: np.random.Generator) -> Wave:
    """The pieces one after the other with pauses, now and then a long one, and some quiet around them."""
    parts = [np.zeros(int(RATE * rng.uniform(0.0, 0.4)), np.float32)]
    for i, piece in enumerate(pieces):
        if i:
            pause = rng.uniform(0.8, 2.5) if rng.random() < 0.07 else rng.uniform(0.05, 0.7)
            parts.append(np.zeros(int(RATE * pause), np.float32))
        parts.append(piece)
    parts.append(np.zeros(int(RATE * rng.uniform(0.0, 0.5)), np.float32))
    whole = np.concatenate(parts)
    quiet = float(np.abs(whole).max(initial=0)) * 10 ** -rng.uniform(2, 4)
    return np.asarray(whole + quiet * rng.standard_normal(len(whole)), np.float32)


def machine_clips(
    sentences: Sequence[str], places: Places, rng: np.random.Generator, count: int, natural_only: bool = False
) -> list[Clip]:
    """`count` clips of text-to-speech, fewer where a program failed, and a few in which nobody speaks.

    Args:
        natural_only: hibari alone, where the programs of Debian's packages are not.
    """
    silent = rng.random(count) < 0.02
    plans = [draw_plan(rng, sentences, natural_only) for _ in range(count - int(silent.sum()))]
    clips = []
    for plan, pieces in zip(plans, speak(plans, rng), strict=True):
        if any(len(piece) < RATE // 8 for piece in pieces):
            continue
        name = plan.voice.name if isinstance(plan.voice, Voice) else "hibari"
        if isinstance(plan.voice, Voice) and plan.voice.engine != "espeak" and rng.random() < 0.6:
            pieces = [other_speaker(np.concatenate(pieces), rng)]
        wav = joined(pieces, rng)
        if len(wav) <= LONGEST * RATE:
            engine = plan.voice.engine if isinstance(plan.voice, Voice) else "hibari"
            clips.append(Clip(places.put(wav, rng), " ".join(plan.sentences), name, engine))
    for _ in range(int(silent.sum())):
        length = int(RATE * rng.uniform(1, 15))
        clips.append(Clip(places.nobody(length, rng), "", "nobody", "nobody"))
    return clips
