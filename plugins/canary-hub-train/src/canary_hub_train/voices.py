"""The text-to-speech voices: which train, and which only test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ESPEAK_ACCENTS = (
    "en-us",
    "en",  # British; by the name "en-gb" espeak-ng finds no variants
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)
# Variants that whisper, croak or sound like a machine are left out: nobody will speak so to the demo.
_ESPEAK_VARIANTS = """
Alex Alicia Andrea Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Mike
Nguyen adam anika announcer antonio aunty belinda benjamin boris caleb david ed edward edward2 f1 f2
f3 f5 grandma grandpa gustave iven iven3 iven4 john kaukovalta klatt klatt2 klatt3 klatt4 m1 m2 m3
m4 m5 m6 m8 marcelo max michel miguel norbert pablo paul pedro quincy rob robert sandro shelby steph
steph2 travis victor zac
"""
ESPEAK_VARIANTS = tuple(_ESPEAK_VARIANTS.split())
UNSEEN_ESPEAK_VARIANTS = ("Andy", "f4", "m7", "linda", "steph3", "iven2")
"""Kept out of training: the evaluation's "unseen espeak variants"."""

FLITE_VOICES = ("slt", "awb", "kal16", "kal")
UNSEEN_FLITE_VOICES = ("rms",)
"""Kept out of training: the evaluation's "unseen flite voice"."""

FESTIVAL_VOICES = ("ked_diphone", "kal_diphone", "cmu_us_slt_arctic_hts")

PACKAGES = {
    "espeak-ng": "espeak-ng",
    "flite": "flite",
    "festival": "festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts",
}
"""Program -> the Debian packages that bring it and its voices."""


@dataclass(frozen=True)
class Voice:
    """One way of saying something: `engine` is espeak, flite or festival."""

    engine: str
    name: str
    speed: float = 1.0
    """Times the voice's usual speaking rate."""
    pitch: int = 50
    """espeak's 0 to 99; the others have no such setting."""


def draw_voice(rng: np.random.Generator, group: str = "seen") -> Voice:
    """A voice of a group: "seen" (all training voices), "espeak" (those of them that take a hundredth of the
    time to render), "unseen-espeak" or "unseen-flite".
    """
    speed = float(rng.uniform(0.8, 1.3))
    pitch = int(rng.integers(20, 85))
    accent = ESPEAK_ACCENTS[int(rng.choice(len(ESPEAK_ACCENTS), p=_ACCENT_WEIGHTS))]
    if group == "unseen-espeak":
        return Voice("espeak", f"{accent}+{rng.choice(UNSEEN_ESPEAK_VARIANTS)}", speed, pitch)
    if group == "unseen-flite":
        return Voice("flite", str(rng.choice(UNSEEN_FLITE_VOICES)), speed)
    engine = 0.0 if group == "espeak" else rng.random()
    if engine < 0.5:
        return Voice("espeak", f"{accent}+{rng.choice(ESPEAK_VARIANTS)}", speed, pitch)
    if engine < 0.85:
        return Voice("flite", str(rng.choice(FLITE_VOICES, p=(0.4, 0.4, 0.15, 0.05))), speed)
    return Voice("festival", str(rng.choice(FESTIVAL_VOICES, p=(0.35, 0.25, 0.4))), speed)


# Half of espeak's share is American: the accent that most of the other voices have too.
_ACCENT_WEIGHTS = (0.4, 0.15, 0.07, 0.1, 0.07, 0.06, 0.07, 0.08)
