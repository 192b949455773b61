"""Batches: which utterances, how perturbed. A batch is a function of (seed, phase, step, rank) alone.

So the data needs no position to be saved beside the step, and any number of processes can make
batches ahead of a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import augment
from .digits import HELD_OUT, Recordings, human_string
from .phones import PAUSE

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
    espeak: float = 0.0
    """Share of the text-to-speech that comes from the shards of espeak alone, where there are such."""
    longest: float = 7.5
    """Seconds; nothing longer is in a batch."""
    seconds: float = 44.0
    """Of audio in a batch."""
    everyone: bool = False
    """The digits of the held-out person too: for final weights, never to measure."""
    plain: bool = False
    """Nothing perturbed or padded, one clip at a time: for the start, which aligns text uniformly."""


@dataclass(frozen=True)
class Spoken:
    """A waveform (S,), its text, and where known the phones (P,) and the seconds (P,) at which they end."""

    wav: Wave
    text: str
    phones: npt.NDArray[np.int64] | None = None
    ends: npt.NDArray[np.float64] | None = None

    def moved(self, wav: Wave, times: float = 1.0, later: float = 0.0) -> Spoken:
        """The same said in `wav`, `times` as long and starting `later` seconds late."""
        if self.phones is None or self.ends is None:
            return replace(self, wav=wav)
        phones, ends = np.insert(self.phones, 0, PAUSE), np.insert(self.ends * times + later, 0, later)
        return replace(self, wav=wav, phones=phones, ends=ends)


@dataclass(frozen=True)
class Batch:
    """Right-padded waveforms (B, S) float32, their lengths (B,), texts, timed phones, and formant factors (B,)."""

    wav: Wave
    lengths: npt.NDArray[np.int64]
    texts: list[str]
    spoken: list[Spoken]
    formants: npt.NDArray[np.float64] | None


class Shards:
    """Rendered shards, mapped from disk and sorted by length."""

    def __init__(self, paths: list[Path]) -> None:
        rows = []
        self._pcm = []
        for number, path in enumerate(paths):
            self._pcm.append(np.load(path, mmap_mode="r"))
            for row in json.loads(path.with_suffix(".json").read_text()):
                rows.append((row["length"], number, row["start"], row["text"], row["phones"], row["ends"]))
        rows.sort(key=lambda row: row[:3])
        self._rows = rows
        self.lengths = np.array([row[0] for row in rows])

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def texts(self) -> list[str]:
        """Of every clip."""
        return [row[3] for row in self._rows]

    def clip(self, index: int) -> Spoken:
        """The clip at that place in the order of length."""
        length, shard, start, text, phones, ends = self._rows[index]
        wav = np.asarray(self._pcm[shard][start : start + length], np.float32) / np.float32(32768)
        return Spoken(wav, text, np.array(phones, np.int64), np.array(ends, np.float64))

    def near(self, seconds: float, rng: np.random.Generator) -> Spoken:
        """A random clip of about that length."""
        centre = int(np.searchsorted(self.lengths, seconds * RATE))
        width = max(20, len(self._rows) // 100)
        low, high = max(0, centre - width), min(len(self._rows), centre + width)
        return self.clip(int(rng.integers(low, high)))


class Speech:
    """All that is heard in training: text-to-speech, and the human recordings."""

    def __init__(self, shards: list[Path], recordings: Recordings | None) -> None:
        self.everyone = recordings
        self.trained = recordings and recordings.only([name for name in recordings.speakers if name != HELD_OUT])
        self.voices = Shards([path for path in shards if "-espeak-" not in path.name])
        self.espeak = Shards([path for path in shards if "-espeak-" in path.name])

    def __len__(self) -> int:
        return len(self.voices) + len(self.espeak)

    @property
    def texts(self) -> list[str]:
        """Of every clip."""
        return self.voices.texts + self.espeak.texts

    def batch(self, mix: Mix, seed: tuple[int, ...]) -> Batch:
        """The batch that belongs to `seed`."""
        rng = np.random.default_rng(seed)
        # The length of a random clip, so lengths come as often as the shards have them; but a third
        # of the batches reach for longer ones, made of several clips in a row.
        lengths = self.voices.lengths
        top = int(np.searchsorted(lengths, mix.longest * RATE))
        target = float(lengths[int(rng.integers(max(1, top)))] / RATE)
        if not mix.plain and rng.random() < 0.25:
            target = float(rng.uniform(1.0, 0.9 * mix.longest))
        target = min(mix.longest, max(0.5, target))
        count = max(4, int(mix.seconds / target))
        items = [self._item(mix, target, rng) for _ in range(count)]
        if not mix.plain:  # a single long row would make all others carry padding
            fitting = [item for item in items if len(item.wav) < (1.2 * target + 0.2) * RATE]
            items = fitting or items
        sizes = np.array([len(item.wav) for item in items])
        wav = np.zeros((len(items), int(sizes.max())), np.float32)
        for row, item in enumerate(items):
            wav[row, : len(item.wav)] = item.wav
        formants = None
        if not mix.plain:
            formants = np.exp(rng.uniform(-0.16, 0.16, len(items)) * (rng.random(len(items)) < mix.speaker))
        return Batch(wav, sizes, [item.text for item in items], items, formants)

    def _item(self, mix: Mix, target: float, rng: np.random.Generator) -> Spoken:
        """Something of `target` seconds with all its perturbations: rows of one length waste no padding."""
        kind, channel = rng.random(), mix.channel
        if kind < mix.empty:
            return self._nothing(target, rng)
        recordings = self.everyone if mix.everyone else self.trained
        human = kind < mix.empty + mix.human and recordings is not None
        each = None
        if human and not mix.plain and rng.random() < mix.mixed:
            each = partial(_like_another, rng=rng)
        speaker, before, after = None, 0.0, 0.0
        if not mix.plain:
            if rng.random() < mix.speaker + 0.4 * human and each is None:
                speaker = augment.Speaker.draw(rng, 0.22 if human else 0.18)
            if rng.random() < 0.7:
                before, after = (rng.uniform(0, 0.6) * rng.random(2)).tolist()
        length = max(0.4, (target - before - after) * (speaker.tempo if speaker else 1.0))
        if human:
            assert recordings is not None
            gap = (0.0, float(rng.choice((0.1, 0.4, 0.6))))
            count = max(1, round(length / (0.45 + sum(gap) / 2)))
            said = Spoken(*human_string(recordings, rng, count, gap, change=each))
            channel = max(channel, mix.human_channel)
        else:
            said = self._several(mix, length, rng)
        if speaker:
            moved = speaker.say(said.wav)
            said = said.moved(moved, len(moved) / len(said.wav))
        if before or after:
            wav = np.pad(said.wav, (int(before * RATE), int(after * RATE)))
            said = said.moved(wav, later=before)
        if not mix.plain and rng.random() < channel:
            said = said.moved(augment.channel_like(said.wav, rng))
        # A text must never lose its sound: instead of what grew too long there is nothing.
        return said if len(said.wav) <= mix.longest * RATE else self._nothing(target, rng)

    def _nothing(self, seconds: float, rng: np.random.Generator) -> Spoken:
        return Spoken(augment.background(int(seconds * RATE), rng), "")

    def _several(self, mix: Mix, target: float, rng: np.random.Generator) -> Spoken:
        """A clip of about `target` seconds; where none is so long, several with pauses between them."""
        shards = self.espeak if len(self.espeak) and rng.random() < mix.espeak else self.voices
        parts = [shards.near(target, rng)]
        total = len(parts[0].wav)
        while total < 0.6 * target * RATE:
            part = shards.near(target - total / RATE, rng)
            pause = np.zeros(int(rng.uniform(0.05, 0.6) * RATE), np.float32)
            parts.append(part.moved(np.concatenate([pause, part.wav]), later=(total + len(pause)) / RATE))
            total += len(parts[-1].wav)
        if len(parts) == 1:
            return parts[0]
        known = [(part.phones, part.ends) for part in parts if part.phones is not None and part.ends is not None]
        return Spoken(
            np.concatenate([part.wav for part in parts]),
            " ".join(part.text for part in parts),
            np.concatenate([phones for phones, _ in known]),
            np.concatenate([ends for _, ends in known]),
        )


def _like_another(wav: Wave, rng: np.random.Generator) -> Wave:
    return augment.Speaker.draw(rng).say(wav)


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
