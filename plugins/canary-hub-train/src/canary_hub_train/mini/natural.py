"""hibari's voice, made into many: its network predicts pitch and spectra, and both are moved before they sound.

hibari-tts (Apache-2.0, a distillation of Kokoro) has one voice inside. It predicts, per frame of 12.5 ms, the pitch
`f0` and three spectra (harmonics, noise, transients). Scaling `f0` and stretching the spectra along frequency gives
voices from a deep man's to a child's in the natural prosody of the one, at no cost in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from canary_hub.errors import HubError

Wave = npt.NDArray[np.float32]
VOICED = 40.0
"""hibari's own limit in Hz, below which a frame has no pitch (hibari.dsp.pulses)."""


@dataclass(frozen=True)
class Throat:
    """One invented person.

    Attributes:
        pitch: times the voice's own pitch.
        formants: times as high; a shorter vocal tract is above 1.
        melody: 0 is monotone, 1 the voice's own, above that livelier.
        breath: added to the noise spectrum, natural log of amplitude.
        speed: times as fast.
    """

    pitch: float = 1.0
    formants: float = 1.0
    melody: float = 1.0
    breath: float = 0.0
    speed: float = 1.0

    @staticmethod
    def draw(rng: np.random.Generator) -> Throat:
        """A man (40 in 100), a woman (40) or a child (20): pitch and formants go together, loosely."""
        kind = rng.random()
        if kind < 0.4:
            pitch, formants = rng.uniform(0.42, 0.8), rng.uniform(0.78, 0.95)
        elif kind < 0.8:
            pitch, formants = rng.uniform(0.8, 1.2), rng.uniform(0.92, 1.1)
        else:
            pitch, formants = rng.uniform(1.1, 1.7), rng.uniform(1.08, 1.28)
        speed = float(np.exp(rng.uniform(-0.35, 0.35)))
        return Throat(float(pitch), float(formants), float(rng.uniform(0.4, 1.5)), float(rng.normal(0, 0.4)), speed)


@cache
def _hibari() -> Any:
    try:
        from hibari import Hibari
    except ImportError as error:
        raise HubError("Speech for mini is made with hibari-tts.", "Install it: pip install hibari-tts") from error
    return Hibari()


def _stretched(spectrum: npt.NDArray[np.float32], factor: float, nearest: bool = False) -> npt.NDArray[np.float32]:
    """(bins, frames): what was at bin b is at b * factor. Above the old top stays what was highest."""
    bins = len(spectrum)
    at = np.minimum(np.arange(bins) / factor, bins - 1)
    if nearest:
        return spectrum[np.round(at).astype(int)]
    low = np.minimum(at.astype(int), bins - 2)
    part = (at - low).astype(np.float32)[:, None]
    return spectrum[low] * (1 - part) + spectrum[low + 1] * part


def say(text: str, throat: Throat, rng: np.random.Generator) -> Wave:
    """The text in that voice, (S,) float32 at 24 kHz; empty where nothing can be said of it."""
    from hibari import dsp

    tts = _hibari()
    pieces = []
    for phonemes in tts.phonemize(text):
        ids = tts.ids(phonemes)
        if len(ids) < 3:
            continue
        given = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([throat.speed], np.float32)}
        lh, th, ln, lr, phi, f0 = (out[0] for out in tts.sess.run(None, given))
        voiced = f0 > VOICED
        if voiced.any():
            middle = float(np.median(f0[voiced]))
            moved = middle * throat.pitch * (np.maximum(f0, 1) / middle) ** throat.melody
            # Slow random drift, so that no two invented people intone alike.
            knots = np.arange(0, len(f0) + 40, 40)
            drift = np.interp(np.arange(len(f0)), knots, rng.normal(0, 0.04, len(knots)))
            f0 = np.where(voiced, np.clip(moved * np.exp(drift), VOICED + 5, 600), 0).astype(np.float32)
        if throat.formants != 1:
            lh, ln, lr = (_stretched(part, throat.formants) for part in (lh, ln, lr))
            th, phi = (_stretched(part, throat.formants, nearest=True) for part in (th, phi))
        pieces.append(dsp.synth(lh, th, ln + np.float32(throat.breath), lr, phi, f0, rng))
    return np.concatenate(pieces).astype(np.float32) if pieces else np.zeros(0, np.float32)
