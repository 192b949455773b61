"""Where a clip is heard: recorded backgrounds and rooms, made-up channels, the telephone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..augment import RATE, Speaker, Wave, background, channel_like
from .human import read_manifest, read_recordings


class Places:
    """Backgrounds and room impulse responses of a tar whose manifest's `kind` says which is which."""

    def __init__(self, path: Path | None) -> None:
        recordings = read_recordings(path) if path else []
        kinds = [row["kind"] for row in read_manifest(path)] if path else []
        sorted_ = list(zip(kinds, recordings, strict=True))
        self.noises: list[Wave] = [r.wav for kind, r in sorted_ if kind == "noise" and r.seconds > 0.5]
        self.rooms: list[Wave] = [_trimmed(r.wav) for kind, r in sorted_ if kind != "noise"]

    def put(self, wav: Wave, rng: np.random.Generator, hardness: float = 1.0) -> Wave:
        """The clip (S,) as a microphone somewhere would have it (S,). `hardness` scales how often it is spoilt."""
        if self.rooms and rng.random() < 0.25 * hardness:
            wav = in_room(wav, smaller(self.rooms[int(rng.integers(len(self.rooms)))], rng))
        if rng.random() < 0.45 * hardness:
            wav = channel_like(wav, rng)
        if self.noises and rng.random() < 0.4 * hardness:
            level = float(np.sqrt((wav**2).mean()) + 1e-6)
            wav = wav + self.noise(len(wav), rng) * level * 10 ** (-rng.uniform(6, 32) / 20)
        if rng.random() < 0.12 * hardness:
            wav = telephone(wav, rng)
        peak = float(np.abs(wav).max(initial=0)) + 1e-6
        return np.asarray(wav * (10 ** rng.uniform(-1.3, 0) / peak), np.float32)

    def noise(self, length: int, rng: np.random.Generator) -> Wave:
        """A piece (length,) of a recorded background, repeated where it is short, of unit variance."""
        whole = self.noises[int(rng.integers(len(self.noises)))]
        if len(whole) < length:
            whole = np.tile(whole, -(-length // len(whole)))
        start = int(rng.integers(len(whole) - length + 1))
        piece = whole[start : start + length]
        return np.asarray(piece / (piece.std() + 1e-4), np.float32)

    def nobody(self, length: int, rng: np.random.Generator) -> Wave:
        """A clip (length,) in which nobody speaks: its text is empty."""
        if not self.noises or rng.random() < 0.5:
            return background(length, rng)
        return np.asarray(self.noise(length, rng) * 10 ** rng.uniform(-2.5, -0.9), np.float32)


def _trimmed(response: Wave) -> Wave:
    """A room's impulse response from its direct sound on, at most 0.8 s; all after 2 ms has unit energy together."""
    start = int(np.abs(response).argmax())
    cut = response[start : start + int(0.8 * RATE)].copy()
    direct = RATE // 500
    cut[:direct] /= np.abs(cut).max() + 1e-9
    cut[direct:] /= np.sqrt((cut[direct:] ** 2).sum()) + 1e-9
    return np.asarray(cut, np.float32)


def smaller(response: Wave, rng: np.random.Generator) -> Wave:
    """The room with shorter and softer echoes: the tar has cathedrals and tunnels, in which Whisper hears nothing."""
    time = np.arange(len(response)) / RATE
    fading = np.exp(-6.9 * time / rng.uniform(0.15, 0.9)) * rng.uniform(0.2, 1.0)
    fading[: RATE // 500] = 1
    return np.asarray(response * fading, np.float32)


def in_room(wav: Wave, response: Wave) -> Wave:
    """(S,) -> (S,): convolved with the room."""
    size = 1 << (len(wav) + len(response) - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(wav, size) * np.fft.rfft(response, size), size)[: len(wav)].astype(np.float32)


def telephone(wav: Wave, rng: np.random.Generator) -> Wave:
    """Through a line of 8 kHz with mu-law coding, 300 to 3,400 Hz, and back."""
    import soxr

    size = 1 << max(9, (len(wav) - 1).bit_length())
    frequency = np.fft.rfftfreq(size, 1 / RATE)
    gate = 1 / (1 + np.exp((rng.uniform(150, 320) - frequency) / 25)) / (1 + np.exp((frequency - 3450) / 60))
    narrow = np.fft.irfft(np.fft.rfft(wav, size) * gate, size)[: len(wav)].astype(np.float32)
    line = soxr.resample(narrow, RATE, RATE // 2)
    peak = float(np.abs(line).max(initial=0)) + 1e-6
    coded = np.sign(line) * np.log1p(255 * np.abs(line) / peak) / np.log(256)
    steps = np.round(coded * 127) / 127
    heard = np.sign(steps) * np.expm1(np.abs(steps) * np.log(256)) / 255 * peak
    back = np.asarray(soxr.resample(heard, RATE // 2, RATE), np.float32)[: len(wav)]
    return np.pad(back, (0, len(wav) - len(back)))


def other_speaker(wav: Wave, rng: np.random.Generator) -> Wave:
    """The clip by somebody else: moved in pitch and tempo."""
    return Speaker.draw(rng, 0.13).say(wav)
