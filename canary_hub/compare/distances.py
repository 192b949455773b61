"""How far the stage outputs of a lane are from those of the first lane."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..run.events import StageDone
from ..specs import Stage

if TYPE_CHECKING:
    import torch

COMPARED = (Stage.PREPROCESSOR, Stage.ENCODER, Stage.PROJECTOR, Stage.PROMPT_TEMPLATE)
"""The stages whose output is a tensor: features, hidden vectors, audio embeddings, and what the LLM is given."""


@dataclass(frozen=True)
class Distance:
    """Of a stage's outputs to the first lane's, padding left out.

    max_abs: the largest absolute difference of two numbers.
    cosine: 1 - cosine of all outputs as one vector: 0 for the same direction, 1 for none in common, at most 2.
    reason: why there is no distance; the two are None then.
    """

    max_abs: float | None = None
    cosine: float | None = None
    reason: str | None = None


@dataclass
class _Sums:
    """What a distance is made of, over the segments so far."""

    max_abs: float = 0.0
    product: float = 0.0
    squares: float = 0.0
    first_squares: float = 0.0
    reason: str | None = None

    def distance(self) -> Distance:
        if self.reason is not None:
            return Distance(reason=self.reason)
        if not math.isfinite(self.max_abs):
            return Distance(reason="holds numbers that are not finite")
        if not self.max_abs:
            return Distance(0.0, 0.0)
        norms = math.sqrt(self.squares) * math.sqrt(self.first_squares)
        return Distance(self.max_abs, max(0.0, 1 - self.product / norms) if norms else 1.0)


class Distances:
    """Takes the lanes' stage outputs batch by batch, in any order and from any thread.

    It holds the first lane's outputs of one batch, and those of lanes that are ahead of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[int, Stage], _Sums] = {}
        self._outputs: dict[tuple[int, Stage], StageDone] = {}
        self._reasons: dict[int, str] = {}

    def leave_out(self, lane: int, reason: str) -> None:
        """Do not measure this lane; leaving out the first one (index 0) leaves out all."""
        with self._lock:
            self._reasons[lane] = reason
            self._outputs = {key: done for key, done in self._outputs.items() if lane and key[0] != lane}

    def add(self, lane: int, done: StageDone) -> None:
        """A lane has finished a stage on the current batch."""
        stage = Stage(done.record.stage)
        if stage not in COMPARED:
            return
        with self._lock:
            if 0 in self._reasons or lane in self._reasons:
                return
            first = self._outputs.get((0, stage))
            if lane and first is not None:
                self._measure(lane, stage, done, first)
                return
            self._outputs[lane, stage] = done
            if not lane:
                for ahead in [lane for lane, of in self._outputs if lane and of is stage]:
                    self._measure(ahead, stage, self._outputs.pop((ahead, stage)), done)

    def next_batch(self) -> None:
        """Every lane has finished its batch: drop the outputs."""
        with self._lock:
            self._outputs.clear()

    def of(self, lane: int) -> dict[str, Distance]:
        """By stage, in their order; empty for the first lane."""
        if not lane:
            return {}
        reason = self._reasons.get(0) or self._reasons.get(lane)
        if reason is not None:
            return {stage.value: Distance(reason=reason) for stage in COMPARED}
        nothing = _Sums(reason="there was nothing to compare")
        return {stage.value: self._sums.get((lane, stage), nothing).distance() for stage in COMPARED}

    def _measure(self, lane: int, stage: Stage, done: StageDone, first: StageDone) -> None:
        sums = self._sums.setdefault((lane, stage), _Sums())
        if sums.reason is not None or done.output is first.output:  # the same tensor: computed once for both
            return
        rows, others = list(_rows(stage, done)), list(_rows(stage, first))
        if len(rows) != len(others):  # a segment was too short for one of the encoders
            sums.reason = f"{len(rows)} segments instead of {len(others)}"
            return
        for row, other in zip(rows, others, strict=True):
            if row.shape != other.shape:
                sums.reason = f"another shape: {_shape(row)} instead of {_shape(other)}"
                return
            a, b = _exact(row), _exact(other)
            biggest = float((a - b).abs().max()) if a.numel() else 0.0
            sums.max_abs = math.nan if math.isnan(biggest) else max(sums.max_abs, biggest)
            sums.product += float((a * b).sum())
            sums.squares += float((a * a).sum())
            sums.first_squares += float((b * b).sum())


def _rows(stage: Stage, done: StageDone) -> Iterator[torch.Tensor]:
    """Each segment's output without padding."""
    assert done.output is not None
    assert done.lengths is not None
    for row, n in zip(done.output, done.lengths.tolist(), strict=True):
        if stage is Stage.PREPROCESSOR:  # (n_mels, T)
            yield row[:, :n]
        elif stage is Stage.PROMPT_TEMPLATE:  # (L, H), padded on the left
            yield row[len(row) - n :]
        else:
            yield row[:n]


def _exact(row: torch.Tensor) -> torch.Tensor:
    """In float64 on the CPU: sums over a million numbers stay exact enough, whatever the lanes' dtypes."""
    return row.cpu().double()


def _shape(row: torch.Tensor) -> str:
    return " x ".join(map(str, row.shape))
