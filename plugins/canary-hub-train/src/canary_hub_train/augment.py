"""Perturbation of waveforms: speaker-like (resampling, tempo) and channel-like (room, filter, noise).

Everything is numpy on one utterance, float32 at 16 kHz, and takes its randomness from the given
generator alone: that is what makes a resumed run equal to an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Wave = npt.NDArray[np.float32]
RATE = 16_000


def resampled(wav: Wave, factor: float) -> Wave:
    """Speed, pitch and formants together, as a tape played `factor` times as fast."""
    import soxr

    return np.asarray(soxr.resample(wav, RATE, RATE / factor, quality="LQ"), np.float32)


def stretched(wav: Wave, factor: float, frame: int = 640, seek: int = 160) -> Wave:
    """`factor` times as fast at the same pitch (WSOLA: overlap-add at the best-matching place).

    Resampling by r and then stretching by 1/r shifts pitch and formants and keeps the tempo.
    """
    hop = frame // 2
    count = int(len(wav) / factor / hop)
    if count < 2 or len(wav) < 2 * (frame + seek):
        return wav
    window = np.hanning(frame + 1)[:frame].astype(np.float32)
    padded = np.pad(wav, (seek, frame + 2 * seek))
    out = np.zeros(count * hop + frame, np.float32)
    at = 0
    for i in range(count):
        target = int(i * hop * factor)
        if i:
            # What would have followed the last piece: look for it around the target.
            follow = padded[at + hop : at + hop + frame]
            near = padded[target : target + frame + 2 * seek]
            at = target + int(np.argmax(np.correlate(near[::2], follow[::2], "valid"))) * 2
        else:
            at = seek
        out[i * hop : i * hop + frame] += window * padded[at : at + frame]
    return out[: count * hop]


@dataclass(frozen=True)
class Speaker:
    """How another person of the same accent differs: pitch and formants `pitch` times as high, `tempo` as fast.

    Formants are moved against the pitch later, in the log-mel (`features.moved_formants`).
    """

    pitch: float
    tempo: float

    @staticmethod
    def draw(rng: np.random.Generator, spread: float = 0.22) -> Speaker:
        """Pitch by exp(-1.7 spread to spread): deep voices are what a few people and synthetic voices lack.

        Tempo is on its own, or goes with the pitch, as on a tape.
        """
        pitch = float(np.exp(rng.uniform(-1.7 * spread, spread)))
        return Speaker(pitch, float(np.exp(rng.uniform(-0.4, 0.3))) if rng.random() < 0.6 else pitch)

    def say(self, wav: Wave) -> Wave:
        """(S,) -> about (S / tempo,)."""
        moved = resampled(wav, self.pitch)
        return moved if self.tempo == self.pitch else stretched(moved, self.tempo / self.pitch)


_NOISE_SECONDS = 9


@cache
def _noises(count: int = 64) -> npt.NDArray[np.float32]:
    """Noises (count, samples) to cut pieces from: making a new one for each clip costs as much as hearing it."""
    rng = np.random.default_rng(0)
    return np.stack([new_noise(_NOISE_SECONDS * RATE, rng) for _ in range(count)])


def noise(length: int, rng: np.random.Generator) -> Wave:
    """Noise (length,) of about unit variance: a piece of one of 64."""
    if length >= _NOISE_SECONDS * RATE:
        return new_noise(length, rng)
    known = _noises()
    start = int(rng.integers(known.shape[1] - length))
    return known[int(rng.integers(len(known))), start : start + length]


def new_noise(length: int, rng: np.random.Generator) -> Wave:
    """Unit-variance noise (length,) of random colour, from white to deep brown, sometimes with hum."""
    size = 1 << max(9, (length - 1).bit_length())  # other sizes are slow to transform
    white = np.fft.rfft(rng.standard_normal(size).astype(np.float32))
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 20)
    coloured = np.fft.irfft(white * (frequency / 1000) ** -rng.uniform(0, 1.2), size)[:length]
    if rng.random() < 0.15:
        hum = float(rng.choice((50, 60, 100, 120, 440, 1000)) * rng.uniform(0.98, 1.02))
        coloured = coloured + coloured.std() * np.sin(2 * np.pi * hum * np.arange(length) / RATE)
    return np.asarray(coloured / (coloured.std() + 1e-9), np.float32)


def _response(length: int, rng: np.random.Generator) -> npt.NDArray[np.complex64]:
    """A channel's frequency response for rfft of `length`: tilt, bumps, band limits, a short room."""
    frequency = np.fft.rfftfreq(length, 1 / RATE)
    octaves = np.log2(np.maximum(frequency, 30) / 1000)
    decibel = rng.uniform(-6, 4) * octaves
    for _ in range(int(rng.integers(0, 4))):
        centre, width = rng.uniform(-3.5, 3), rng.uniform(0.2, 1)
        decibel += rng.uniform(-9, 9) * np.exp(-(((octaves - centre) / width) ** 2))
    if rng.random() < 0.4:  # telephone and old recordings: little or nothing above 4 kHz
        top = rng.uniform(3200, 4000)
        decibel -= 60 / (1 + np.exp(-(frequency - top) / 60))
    if rng.random() < 0.3:
        decibel -= 30 / (1 + np.exp((frequency - rng.uniform(60, 300)) / 20))
    response = 10 ** (decibel / 20) + 0j
    if rng.random() < 0.4:
        decay = rng.uniform(0.02, 0.12)
        tail = np.arange(int(RATE * min(4 * decay, 0.3))) / RATE
        room = rng.standard_normal(tail.size) * np.exp(-tail / decay)
        room *= rng.uniform(0.1, 0.7) / np.sqrt((room**2).sum() + 1e-9)
        room[0] = 1
        response = response * np.fft.rfft(room, length)
    return np.asarray(response, np.complex64)


def channel_like(wav: Wave, rng: np.random.Generator) -> Wave:
    """Another microphone and room: filtered, noisy, louder or softer, sometimes clipped."""
    length = 1 << max(9, int(len(wav) + RATE // 4).bit_length())
    shaped = np.fft.irfft(np.fft.rfft(wav, length) * _response(length, rng), length)[: len(wav)]
    level = float(np.sqrt((shaped**2).mean()) + 1e-6)
    if rng.random() < 0.7:
        shaped = shaped + noise(len(wav), rng) * level * 10 ** (-rng.uniform(6, 40) / 20)
    if rng.random() < 0.1:
        limit = float(np.abs(shaped).max()) * rng.uniform(0.2, 0.8)
        shaped = np.clip(shaped, -limit, limit)
    peak = float(np.abs(shaped).max()) + 1e-6
    return np.asarray(shaped * (10 ** rng.uniform(-1.5, 0) / peak), np.float32)


def music(length: int, rng: np.random.Generator) -> Wave:
    """Made-up music (length,): chords, a tune, a bass and a drum, each sometimes missing, on one beat."""
    beat = int(RATE * rng.uniform(0.15, 0.8))
    beats = length // beat + 2
    wav = np.zeros(beats * beat, np.float32)
    time = np.arange(beat) / RATE
    key, decay = 110 * 2 ** (rng.integers(0, 12) / 12), rng.uniform(0.1, 3)
    richness, odd = rng.uniform(0.4, 1.6), 1 + (rng.random() < 0.4)  # of one instrument; reeds and square waves: odd
    tremolo, vibrato = rng.uniform(0, 0.5, 2) * (rng.random(2) < 0.4)
    waver = np.sin(2 * np.pi * rng.uniform(3, 8) * time)
    chords, tune, bass, drum = rng.random(4) < (0.6, 0.7, 0.4, 0.4)
    steps = np.array((0, 2, 4, 5, 7, 9, 11))
    root = 0
    for place in range(beats):
        if place % 4 == 0:
            root = int(rng.integers(7))
        degrees = [root, root + 2, root + 4] if chords else []
        if tune and rng.random() < 0.8:
            degrees.append(7 + int(rng.integers(8)))
        if bass:
            degrees.append(root - 7)
        note = np.zeros(beat)
        for degree in degrees:
            phase = 2 * np.pi * key * 2 ** ((steps[degree % 7] + 12 * (degree // 7)) / 12) * time + vibrato * waver
            for harmonic in range(1, 7 * odd, odd):
                note += np.sin(phase * harmonic) * harmonic**-richness / 7
        note *= np.exp(-time / decay) * np.minimum(1, time / 0.01) * (1 + tremolo * waver)
        if drum and rng.random() < 0.7:
            note += rng.standard_normal(beat) * np.exp(-time / rng.uniform(0.01, 0.1)) * rng.uniform(0.1, 0.6)
        wav[place * beat : (place + 1) * beat] = note
    start = int(rng.integers(beat))
    return wav[start : start + length]


def background(length: int, rng: np.random.Generator) -> Wave:
    """No speech (length,): digital silence, noise, tones or music; its text is empty."""
    kind = rng.random()
    if kind < 0.1:
        return np.zeros(length, np.float32)
    if kind < 0.45:
        wav = music(length, rng) + noise(length, rng) * 0.01
    elif kind < 0.75:
        wav = noise(length, rng)
        if rng.random() < 0.5:  # swelling, as wind or traffic does
            knots = rng.uniform(0.05, 1, 6)
            wav = wav * np.interp(np.linspace(0, 5, length), np.arange(6), knots).astype(np.float32)
    else:
        time = np.arange(length) / RATE
        wav = np.zeros(length, np.float32)
        for _ in range(int(rng.integers(1, 5))):
            base = 110 * 2 ** (rng.integers(0, 36) / 12)
            start = int(rng.integers(length))
            envelope = np.exp(-time[: length - start] / rng.uniform(0.1, 1.5))
            for harmonic in range(1, int(rng.integers(2, 6))):
                wav[start:] += (envelope * np.sin(2 * np.pi * base * harmonic * time[: length - start])) / harmonic
        wav += noise(length, rng) * 0.01
    peak = float(np.abs(wav).max()) + 1e-6
    return np.asarray(wav * (10 ** rng.uniform(-3, -0.3) / peak), np.float32)
