"""What the LLM learns before it hears: English, and that the audio slot holds what it shall write, noisily.

Half a sentence's worth of text is joined to long ones as speech clips are, so that it keeps its place in long slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .batches import Batch, Codec, Ids


class Copying:
    """Batches without end of (slot tokens, text). The slot is a row of ids with mixing weights, not yet embeddings."""

    def __init__(self, codec: Codec, sentences: Sequence[str], blank: int, budget: int = 4096) -> None:
        self.codec, self.sentences, self.blank, self.budget = codec, sentences, blank, budget

    def draw(self, rng: np.random.Generator, hardness: float = 1.0) -> Ids:
        """One to ten sentences in a row, at most 150 tokens; the beginning of one where it shall be easy."""
        most = int(10 + 140 * hardness)
        if hardness < 0.5:
            return self.codec.encode([self.sentences[int(rng.integers(len(self.sentences)))]])[0][:most]
        wished = 0 if rng.random() < 0.4 else int(rng.integers(20, 110))
        text = ""
        ids: Ids = []
        while not text or len(ids) < wished:
            more = self.sentences[int(rng.integers(len(self.sentences)))]
            text = f"{text} {more}" if text else more
            ids = self.codec.encode([text])[0]
            if len(ids) > most:
                return ids[:most]
        return ids

    def slot(
        self, ids: Ids, rng: np.random.Generator, vocabulary: int, hardness: float = 1.0
    ) -> tuple[Ids, Ids, list[float]]:
        """What CTC might make of the text: (first ids, second ids, share of the first), one each per frame of 80 ms."""
        wrong = rng.uniform(0, 0.35) * hardness
        gap = rng.uniform(0.8, 2.6) * hardness
        first: Ids = []
        for token in ids:
            fate = rng.random()
            if fate < wrong * 0.25:  # deleted
                continue
            said = int(rng.integers(256, vocabulary - 6)) if fate < wrong else token
            first += [said] * (2 if rng.random() < 0.25 * hardness else 1)
            first += [self.blank] * int(rng.poisson(gap))
        first = [self.blank] * int(rng.integers(0, 5)) + first + [self.blank] * int(rng.integers(1, 6))
        second = [self.blank if rng.random() < 0.5 else int(rng.integers(256, vocabulary - 6)) for _ in first]
        share = [1 - hardness * float(rng.uniform(0, 0.45)) if rng.random() < 0.6 else 1.0 for _ in first]
        return first, second, share

    def batches(
        self, seed: int, vocabulary: int, pool: int = 512, hardness: Callable[[], float] = lambda: 1.0
    ) -> Iterator[tuple[Batch, Tensor, Tensor]]:
        """(batch whose `audio` is the first ids (B, M), second ids (B, M), share (B, M)).

        Args:
            hardness: 0 (the text itself, short) to 1, asked before each pool: copying is found in a few hundred steps
                when it begins easy, and in thousands otherwise.
        """
        rng = np.random.default_rng(seed)
        while True:
            hard = hardness()
            drawn = [self.draw(rng, hard) for _ in range(pool)]
            rows = [(ids, self.slot(ids, rng, vocabulary, hard)) for ids in drawn]
            rows.sort(key=lambda row: len(row[0]) + len(row[1][0]))
            groups, group = [], []
            for row in rows:
                if group and (len(group) + 1) * (len(row[0]) + len(row[1][0]) + 15) > self.budget:
                    groups.append(group)
                    group = []
                group.append(row)
            groups.append(group)
            for i in rng.permutation(len(groups)):
                group = groups[i]
                lengths = torch.tensor([len(row[1][0]) for row in group])
                first = _padded([row[1][0] for row in group], self.blank)
                second = _padded([row[1][1] for row in group], self.blank)
                share = _padded([row[1][2] for row in group], 1.0)
                texts = _padded([row[0] for row in group], 0)
                yield Batch(first, lengths, texts, torch.tensor([len(row[0]) for row in group])), second, share


def _padded(rows: Sequence[Sequence[float]], value: float) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def slot_frames(table: Tensor, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """(B, M) ids and shares -> (B, M, hidden): mixed embeddings, louder or softer, with noise."""
    mixed = share[..., None] * table[first] + (1 - share[..., None]) * table[second]
    size = table.detach().pow(2).mean().sqrt()
    loudness = torch.empty(len(first), 1, 1, device=table.device).uniform_(-0.3, 0.8).exp()
    noise = torch.rand(len(first), 1, 1, device=table.device) * 0.6 * size
    return (mixed + noise * torch.randn_like(mixed)) * loudness
