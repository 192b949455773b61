"""What the ears heard, on disk: shards of some minutes, so that training starts on what there is.

A shard is `KIND-NUMBER.npy`, the encoder's states of all its clips in a row, (frames, d_model) float16 at 20 ms, and
`KIND-NUMBER.json`, one row per clip. Texts are stored, not ids: another tokenizer needs no other shards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from canary_hub.atomic import beside, write_text

from .clips import Clip
from .ears import FRAME, STACK

States = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Heard:
    """One clip of a shard.

    Attributes:
        start: its first row in the shard's states.
        frames: its rows, a multiple of 4.
    """

    text: str
    source: str
    voice: str
    start: int
    frames: int
    seconds: float


def shard_path(folder: Path, kind: str, number: int) -> Path:
    """Where a shard's states are; the shard is complete where this exists."""
    return folder / f"{kind}-{number:05d}.npy"


def write_shard(path: Path, clips: Iterable[tuple[Clip, torch.Tensor]]) -> float:
    """Writes (clip, states (frames, d_model)); returns the hours in it."""
    rows, states, start = [], [], 0
    for clip, heard in clips:
        rows.append(Heard(clip.text, clip.source, clip.voice, start, len(heard), round(len(clip.wav) / 16_000, 2)))
        states.append(heard.numpy())
        start += len(heard)
    write_text(path.with_suffix(".json"), json.dumps([asdict(row) for row in rows]))
    with beside(path) as part, part.open("wb") as file:  # last: a shard that exists is complete
        np.save(file, np.concatenate(states))
    return sum(row.seconds for row in rows) / 3600


def read_rows(path: Path) -> list[Heard]:
    """The clips of a shard."""
    return [Heard(**row) for row in json.loads(path.with_suffix(".json").read_text("utf-8"))]


def find_shards(folder: Path, kind: str = "") -> list[Path]:
    """Every complete shard (of a kind), in order."""
    return sorted(folder.glob(f"{kind}*-?????.npy"))


class Shard:
    """A complete shard, its states mapped from disk: pages are read when a batch wants them."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, read_rows(path)
        self._states: States = np.load(path, mmap_mode="r")

    def stacked(self, row: Heard) -> npt.NDArray[np.float16]:
        """(frames / 4, 4 d_model): what the projector gets, one row per 80 ms."""
        states = self._states[row.start : row.start + row.frames]
        return states.reshape(row.frames // STACK, STACK * states.shape[1])


def audio_frames(samples: int) -> int:
    """Audio frames of 80 ms that a clip of so many samples makes."""
    return max(1, -(-samples // FRAME))
