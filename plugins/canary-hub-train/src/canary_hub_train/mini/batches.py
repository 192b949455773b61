"""Batches: chat prompts with an audio slot, and what the model shall write after them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..tokenizer import PROMPT
from .shards import Heard, Shard, find_shards

Ids = list[int]
KINDS = ("machine", "natural", "human")
"""Shards that are trained on."""


class Codec:
    """Text <-> ids, many at once, by the tokenizer.json in a folder."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.end = int(self._tokenizer.token_to_id("<|im_end|>"))
        self.before, self.after = (self.encode([part])[0] for part in PROMPT)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of every text."""
        return [found.ids for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Ids) -> str:
        """The text of the ids, without special tokens and outer space."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()


@dataclass
class Batch:
    """B clips, longest last or first as it comes, padded on the right.

    Attributes:
        audio: (B, M, 4 d_model) float16.
        lengths: (B,) audio frames of each.
        texts: (B, L) ids without the end token; text_lengths (B,).
    """

    audio: Tensor
    lengths: Tensor
    texts: Tensor
    text_lengths: Tensor


@dataclass(frozen=True)
class _Clip:
    shard: Shard
    row: Heard
    ids: Ids


def weight_of(kind: str, source: str) -> float:
    """How often a clip is drawn, against 1 for a machine's. People are few, so they are heard more often."""
    if kind != "human":
        return 1.0
    return {"kathleen": 1.5, "an4": 0.7, "speechocean762": 0.7}.get(source, 5.0)


class Speech:
    """All clips that exist, drawn by weight, in batches of about equal length.

    Shards that are made meanwhile come in whenever a pool has been used up.
    """

    def __init__(self, folder: Path, codec: Codec, kinds: Sequence[str] = KINDS, budget: int = 4096):
        self.folder, self.codec, self.kinds, self.budget = folder, codec, kinds, budget
        self._shards: dict[Path, list[_Clip]] = {}
        self._clips: list[_Clip] = []
        self._weights: npt.NDArray[np.float64] = np.zeros(0)

    def refresh(self) -> float:
        """Takes in new shards; the hours there are."""
        weights = []
        for kind in self.kinds:
            for path in find_shards(self.folder, kind):
                if path not in self._shards:
                    shard = Shard(path)
                    ids = self.codec.encode([row.text for row in shard.rows])
                    self._shards[path] = [_Clip(shard, row, i) for row, i in zip(shard.rows, ids, strict=True)]
        self._clips = [clip for clips in self._shards.values() for clip in clips]
        for clip in self._clips:
            weights.append(weight_of(clip.shard.path.name.split("-")[0], clip.row.source))
        self._weights = np.asarray(weights) / max(sum(weights), 1e-9)
        return sum(clip.row.seconds for clip in self._clips) / 3600

    def pools(self, seed: int, size: int = 1024, longest: float = 30.0) -> Iterator[Batch]:
        """Batches without end. A batch has about `budget` positions, padding and prompt included.

        Args:
            longest: seconds; longer clips wait, so that a beginner starts with what is easy.
        """
        rng = np.random.default_rng(seed)
        while True:
            self.refresh()
            fits = np.array([clip.row.seconds <= longest for clip in self._clips])
            weights = self._weights * fits
            picked = rng.choice(len(self._clips), size, p=weights / weights.sum())
            clips = sorted((self._clips[i] for i in picked), key=lambda clip: (clip.row.frames, len(clip.ids)))
            groups, group = [], []
            for clip in clips:
                longest_row = clip.row.frames // 4 + 60 + len(clip.ids)
                if group and (len(group) + 1) * longest_row > self.budget:
                    groups.append(group)
                    group = []
                group.append(clip)
            groups.append(group)
            for i in rng.permutation(len(groups)):
                yield collate([(c.shard.stacked(c.row), c.ids) for c in groups[i]], rng)


def collate(clips: Sequence[tuple[npt.NDArray[np.float16], Ids]], rng: np.random.Generator | None = None) -> Batch:
    """(states (M, 4 d_model), ids) of each clip -> a batch. With `rng`, shifted by up to 60 ms and masked in places."""
    lengths = [len(states) for states, _ in clips]
    audio = np.zeros((len(clips), max(lengths), clips[0][0].shape[1]), np.float16)
    texts = np.zeros((len(clips), max(1, *(len(ids) for _, ids in clips)) if clips else 1), np.int64)
    for i, (states, ids) in enumerate(clips):
        audio[i, : len(states)] = _disturbed(states, rng) if rng is not None else states
        texts[i, : len(ids)] = ids
    return Batch(
        torch.from_numpy(audio),
        torch.tensor(lengths),
        torch.from_numpy(texts),
        torch.tensor([len(ids) for _, ids in clips]),
    )


def _disturbed(states: npt.NDArray[np.float16], rng: np.random.Generator) -> npt.NDArray[np.float16]:
    """(M, 4 d_model) -> the same shape: begun 0 to 3 encoder frames later, a few spans of frames silenced."""
    width = states.shape[1] // 4
    flat = states.reshape(-1, width)
    late = int(rng.integers(4))
    flat = np.concatenate([flat[late:], np.repeat(flat[-1:], late, axis=0)])  # a copy, also where nothing moved
    if rng.random() < 0.5:
        for _ in range(1 + len(flat) // 400):
            start, length = int(rng.integers(len(flat))), int(rng.integers(1, 16))
            flat[start : start + length] = 0
    return flat.reshape(states.shape)


@dataclass
class Laid:
    """A batch laid out for the LLM.

    Attributes:
        embeds: (B, L, hidden): prompt, audio frames, prompt, text.
        targets: (B, L): the next token where it is text or its end, else -100.
    """

    embeds: Tensor
    targets: Tensor


def lay_out(table: Tensor, frames: Tensor, batch: Batch, codec: Codec, given: Tensor | None = None) -> Laid:
    """Puts audio frames and text into the chat prompt.

    Args:
        table: embeddings (vocabulary, hidden).
        frames: (B, M, hidden).
        given: (B, L) the text's ids as the model is shown them, where they differ from what it shall write.
    """
    device = frames.device
    before, after = (table[torch.tensor(ids, device=device)] for ids in (codec.before, codec.after))
    given = batch.texts if given is None else given
    rows, targets = [], []
    length = 0
    for i, (m, n) in enumerate(zip(batch.lengths.tolist(), batch.text_lengths.tolist(), strict=True)):
        row = torch.cat([before, frames[i, :m].to(table.dtype), after, table[given[i, :n]]])
        head = len(before) + m + len(after) - 1
        wanted = torch.cat([batch.texts[i, :n], torch.tensor([codec.end], device=device)])
        targets.append(torch.nn.functional.pad(wanted, (head, 0), value=-100))
        rows.append(row)
        length = max(length, len(row))
    pad = torch.nn.functional.pad
    embeds = torch.stack([pad(row, (0, 0, 0, length - len(row))) for row in rows])
    return Laid(embeds, torch.stack([pad(t, (0, length - len(t)), value=-100) for t in targets]))
