"""Perturbation of waveforms: speaker-like (resampling, tempo) and channel-like (room, filter, noise).

Everything is numpy on one utterance, float32 at 16 kHz, and takes its randomness from the given
generator alone: that is what makes a resumed run equal to an uninterrupted one.
"""

from __future__ import annotations

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


def formants_moved(wav: Wave, factor: float, size: int = 512, hop: int = 128, smooth: int = 28) -> Wave:
    """Formants `factor` times as high, pitch and tempo kept: a shorter or longer vocal tract.

    Each short spectrum is divided by its own envelope (the cepstrum up to `smooth`) and multiplied by
    the envelope stretched along the frequencies.
    """
    window = np.hanning(size + 1)[:size].astype(np.float32)
    whole = np.pad(wav, (size, size + hop))
    starts = np.arange(0, len(whole) - size, hop)
    spectra = np.fft.rfft(whole[starts[:, None] + np.arange(size)] * window, axis=1)
    log_size = np.log(np.abs(spectra) + 1e-4)
    cepstra = np.fft.irfft(log_size, axis=1)
    cepstra[:, smooth : size - smooth + 1] = 0
    envelope = np.fft.rfft(cepstra, axis=1).real
    bins = np.arange(size // 2 + 1)
    at = np.minimum(bins / factor, size // 2)
    low = np.minimum(at.astype(int), size // 2 - 1)
    share = at - low
    moved = envelope[:, low] * (1 - share) + envelope[:, low + 1] * share
    gain = np.exp(np.clip(moved - envelope, -4, 4))
    pieces = np.fft.irfft(spectra * gain, size, axis=1) * window
    out, weight = np.zeros(len(whole)), np.zeros(len(whole))
    for start, piece in zip(starts, pieces, strict=True):
        out[start : start + size] += piece
        weight[start : start + size] += window**2
    return np.asarray((out / np.maximum(weight, 1e-3))[size : size + len(wav)], np.float32)


def speaker_like(wav: Wave, rng: np.random.Generator, spread: float = 0.22) -> Wave:
    """Another person of the same accent: pitch by exp(-1.7 spread to spread), formants by less, tempo on its own.

    It reaches further down than up: deep voices are what a few people and synthetic voices lack.
    """
    factor = float(np.exp(rng.uniform(-1.7 * spread, spread)))
    tempo = float(np.exp(rng.uniform(-0.4, 0.3)))
    wav = resampled(wav, factor)
    if rng.random() < 0.7:
        # After resampling the formants lie `factor` high, like the pitch; bring them elsewhere.
        wav = formants_moved(wav, float(np.exp(rng.uniform(-0.15, 0.15))) / factor)
    return stretched(wav, tempo / factor) if rng.random() < 0.6 else wav


def noise(length: int, rng: np.random.Generator) -> Wave:
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


def padded(wav: Wave, rng: np.random.Generator, longest: float = 0.6) -> Wave:
    """Silence of up to `longest` seconds before and after."""
    before, after = (int(rng.uniform(0, longest) * RATE * rng.random()) for _ in range(2))
    return np.pad(wav, (before, after))


def background(length: int, rng: np.random.Generator) -> Wave:
    """No speech (length,): digital silence, noise, or slow tones like music; its text is empty."""
    kind = rng.random()
    if kind < 0.2:
        return np.zeros(length, np.float32)
    if kind < 0.75:
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
