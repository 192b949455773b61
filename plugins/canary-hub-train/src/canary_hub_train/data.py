"""Batches: which utterances, how perturbed. A batch is a function of (seed, phase, step, rank) alone.

So the data needs no position to be saved beside the step, and any number of processes can make
batches ahead of a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import augment
from .digits import Recordings, human_string

Wave = npt.NDArray[np.float32]
RATE = 16_000


@dataclass(frozen=True)
class Mix:
    """What a phase hears: shares of the batch, and how hard it is perturbed."""

    human: float = 0.35
    """Share of human digit strings."""
    empty: float = 0.06
    """Share of clips without speech, whose text is empty."""
    channel: float = 0.5
    """Share that goes through `channel_like`."""
    speaker: float = 0.5
    """Share of the text-to-speech that goes through `speaker_like`; human digits nearly always do."""
    mixed: float = 0.0
    """Share of the human strings whose every digit is of another person, each perturbed by itself."""
    human_channel: float = 0.0
    """At least that share of the human strings goes through `channel_like`."""
    longest: float = 7.5
    """Seconds; nothing longer is in a batch."""
    seconds: float = 44.0
    """Of audio in a batch."""
    plain: bool = False
    """Nothing perturbed or padded, one clip at a time: for the start, which aligns text uniformly."""


@dataclass(frozen=True)
class Batch:
    """Right-padded waveforms (B, S) float32, their lengths (B,) and their texts."""

    wav: Wave
    lengths: npt.NDArray[np.int64]
    texts: list[str]


class Speech:
    """The rendered shards, mapped from disk and sorted by length; and the human recordings."""

    def __init__(self, shards: list[Path], recordings: Recordings | None) -> None:
        self.recordings = recordings
        rows = []
        self._pcm = []
        for number, path in enumerate(shards):
            self._pcm.append(np.load(path, mmap_mode="r"))
            for row in json.loads(path.with_suffix(".json").read_text()):
                rows.append((row["length"], number, row["start"], row["text"]))
        rows.sort(key=lambda row: row[:3])
        self._rows = rows
        self._lengths = np.array([row[0] for row in rows])

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def texts(self) -> list[str]:
        """Of every clip."""
        return [row[3] for row in self._rows]

    def clip(self, index: int) -> tuple[Wave, str]:
        """The clip (S,) at that place in the order of length, and its text."""
        length, shard, start, text = self._rows[index]
        return np.asarray(self._pcm[shard][start : start + length], np.float32) / np.float32(32768), text

    def near(self, seconds: float, rng: np.random.Generator) -> int:
        """A random clip of about that length."""
        centre = int(np.searchsorted(self._lengths, seconds * RATE))
        width = max(20, len(self._rows) // 60)
        low, high = max(0, centre - width), min(len(self._rows), centre + width)
        return int(rng.integers(low, high))

    def batch(self, mix: Mix, seed: tuple[int, ...]) -> Batch:
        """The batch that belongs to `seed`."""
        rng = np.random.default_rng(seed)
        # The length of a random clip, so lengths come as often as the shards have them; but a third
        # of the batches reach for longer ones, made of several clips in a row.
        top = int(np.searchsorted(self._lengths, mix.longest * RATE))
        target = float(self._lengths[int(rng.integers(max(1, top)))] / RATE)
        if not mix.plain and rng.random() < 0.25:
            target = float(rng.uniform(1.0, 0.9 * mix.longest))
        target = min(mix.longest, max(0.5, target))
        count = max(4, int(mix.seconds / (target + 0.3)))
        items = [self._item(mix, target, rng) for _ in range(count)]
        lengths = np.array([len(wav) for wav, _ in items])
        wav = np.zeros((count, int(lengths.max())), np.float32)
        for row, (samples, _) in enumerate(items):
            wav[row, : len(samples)] = samples
        return Batch(wav, lengths, [text for _, text in items])

    def _item(self, mix: Mix, target: float, rng: np.random.Generator) -> tuple[Wave, str]:
        longest = int(mix.longest * RATE)
        kind, channel = rng.random(), mix.channel
        if kind < mix.empty:
            return augment.background(int(target * RATE), rng), ""
        if kind < mix.empty + mix.human and self.recordings is not None:
            gap = (0.0, float(rng.choice((0.1, 0.4, 0.6))))
            count = max(1, round(target / (0.45 + sum(gap) / 2) * rng.uniform(0.85, 1.1)))
            each = None
            if not mix.plain and rng.random() < mix.mixed:
                each = partial(augment.speaker_like, rng=rng)
            wav, text = human_string(self.recordings, rng, count, gap, change=each)
            shifted, spread = each is None and rng.random() < 0.4 + mix.speaker, 0.22
            channel = max(channel, mix.human_channel)
        else:
            wav, text = self._several(target, rng)
            shifted, spread = rng.random() < mix.speaker, 0.18
        perturbed = wav
        if not mix.plain:
            if shifted:
                perturbed = augment.speaker_like(perturbed, rng, spread)
            if rng.random() < 0.7:
                perturbed = augment.padded(perturbed, rng)
            if rng.random() < channel:
                perturbed = augment.channel_like(perturbed, rng)
        # A text must never lose its sound: what grew too long is taken as it was, or as silence.
        for candidate in (perturbed, wav):
            if len(candidate) <= longest:
                return candidate, text
        return augment.background(int(target * RATE), rng), ""

    def _several(self, target: float, rng: np.random.Generator) -> tuple[Wave, str]:
        """A clip of about `target` seconds; where none is so long, several with pauses between them."""
        wav, text = self.clip(self.near(target, rng))
        pieces, texts, total = [wav], [text], len(wav)
        while total < 0.6 * target * RATE:
            wav, text = self.clip(self.near(target - total / RATE, rng))
            pause = np.zeros(int(rng.uniform(0.05, 0.6) * RATE), np.float32)
            pieces += [pause, wav]
            texts.append(text)
            total += len(pause) + len(wav)
        return np.concatenate(pieces), " ".join(texts)


class Steps:
    """The batches of a phase from `first` on, made in `workers` processes (0: in this one)."""

    def __init__(self, speech: Speech, mix: Mix, seed: tuple[int, ...], rank: int, world: int) -> None:
        self.speech, self.mix, self.seed, self.rank, self.world = speech, mix, seed, rank, world

    def __getitem__(self, step: int) -> Batch:
        return self.speech.batch(self.mix, (*self.seed, step, self.rank, self.world))

    def __len__(self) -> int:
        return 1 << 40

    def iterate(self, first: int, last: int, workers: int = 0) -> Iterator[Batch]:
        """Batches first..last-1 in order."""
        if workers == 0:
            yield from (self[step] for step in range(first, last))
            return
        from torch.utils.data import DataLoader

        yield from DataLoader(self, batch_size=None, sampler=range(first, last), num_workers=workers)  # type: ignore[arg-type]
