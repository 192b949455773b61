"""Makes the shards: speech is spoken, spoilt, heard by the frozen encoder, and only what was heard is kept.

Shard numbers are seeds: any number of processes, in any sitting, make the same shards; each takes the numbers that it
is told, and leaves out those that exist. Stopping one costs the shard it was at, half a minute of work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .clips import LONGEST, Clip, joined, machine_clips
from .ears import RATE, hear, load_encoder
from .human import Recording, read_manifest, read_recordings
from .places import Places, other_speaker
from .shards import shard_path, write_shard
from .text import Capitals, is_kept_back, read_sentences, sayable, written

CLIPS = 100
"""Of a text-to-speech shard: about a quarter of an hour of speech."""
PARTS = 8
"""Shards that hold all of the human speech once."""
CAPITALS_FROM = 100_000


@dataclass(frozen=True)
class Sources:
    """What speech is made from."""

    text: Path
    human_train: Path | None
    human_dev: Path | None
    noise: Path | None
    whisper: Path


class Maker:
    """Makes shards one at a time; what it needs is read once."""

    def __init__(self, sources: Sources, folder: Path, small: bool = False) -> None:
        self.count = 6 if small else CLIPS
        torch.set_num_threads(1)
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        without = [row["text"] for row in read_manifest(sources.human_dev)] if sources.human_dev else []
        sentences = read_sentences(sources.text, without, 5_000 if small else None)
        self.capitals = Capitals(sentences[:CAPITALS_FROM])
        can = [sentence for sentence in sentences if sayable(sentence)]
        self.sentences = {
            "machine": [sentence for sentence in can if not is_kept_back(sentence)],
            "unseen": [sentence for sentence in can if is_kept_back(sentence)],
        }
        self.places = Places(sources.noise)
        self.encoder = load_encoder(sources.whisper)
        people = read_recordings(sources.human_train) if sources.human_train else []
        self.people = people[:: max(1, len(people) // 48)] if small else people

    def make(self, kind: str, number: int) -> float | None:
        """One shard; the hours in it, or None where it exists."""
        path = shard_path(self.folder, kind, number)
        if path.exists():
            return None
        rng = np.random.default_rng([number, *kind.encode()])
        if kind == "human":
            part = self.people[number % PARTS :: PARTS]
            made: Iterable[Clip] = human_clips(part, self.capitals, self.places, rng, clean=number < PARTS)
        else:
            texts = self.sentences["unseen" if kind == "unseen" else "machine"]
            made = machine_clips(texts, self.places, rng, self.count, natural_only=kind == "natural")
        # bf16 where the processor multiplies it natively: half the time, states within 1 %.
        return write_shard(path, ((clip, hear(self.encoder, clip.wav, torch.bfloat16)) for clip in made))


def human_clips(
    people: list[Recording], capitals: Capitals, places: Places, rng: np.random.Generator, clean: bool
) -> Iterator[Clip]:
    """Every recording once: alone or joined with others of the same source, as it is or spoilt.

    Joined, because nearly all recordings are short, and a model that never heard a person for longer than 5 s loses
    its place in a person's long sentence.
    """
    for source in sorted({person.source for person in people}):
        mine = [person for person in people if person.source == source]
        mine = [mine[i] for i in rng.permutation(len(mine))]
        if not clean and rng.random() < 0.6:  # one voice for longer
            mine.sort(key=lambda person: person.speaker)
        while mine:
            wished = 0.0 if clean or rng.random() < 0.5 else float(rng.uniform(5, 28))
            together = [mine.pop()]
            while mine and sum(p.seconds + 0.6 for p in [*together, mine[-1]]) < min(wished, LONGEST - 4):
                together.append(mine.pop())
            pieces = [person.wav for person in together]
            if not clean and rng.random() < 0.5:
                pieces = [other_speaker(piece, rng) for piece in pieces]
            wav = joined(pieces, rng) if len(pieces) > 1 else pieces[0]
            if not clean and rng.random() < 0.7:
                wav = places.put(wav, rng, 0.8)
            if len(wav) <= LONGEST * RATE:
                text = " ".join(written(person.raw, capitals) for person in together)
                yield Clip(np.asarray(wav, np.float32), text, together[0].speaker, source)


def make_shards(
    maker: Maker, jobs: Iterable[tuple[str, int]], say: Callable[[str], None] = print, until: float | None = None
) -> None:
    """Makes the missing of the shards (kind, number) in order, till `until` (time.monotonic)."""
    hours = 0.0
    started = time.monotonic()
    for kind, number in jobs:
        if until is not None and time.monotonic() > until:
            return
        made = maker.make(kind, number)
        if made is not None:
            hours += made
            say(f"{kind} {number}: {made:.2f} h, {hours:.1f} h in {(time.monotonic() - started) / 60:.1f} min")


def plan(machine: int, human: int, natural_only: bool = False) -> list[tuple[str, int]]:
    """The order of making: unseen first (to measure by), then people and machines evenly spread."""
    jobs: list[tuple[float, str, int]] = [] if natural_only else [(-1.0, "unseen", 0)]
    jobs += [(i / machine, "natural" if natural_only else "machine", i) for i in range(machine)]
    # A copy of the people at a time.
    jobs += [(i // PARTS * PARTS / max(human, 1) * 0.8, "human", i) for i in range(human)]
    return [(kind, number) for _, kind, number in sorted(jobs)]
