"""What a run tells while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .result import Result, SegmentResult, StageRecord

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class StageDone:
    """A stage has finished its work on a batch of segments.

    output, lengths: what it made, batch first, and how much of each row is not padding; None for the
        LLM, and for the prompt template the embeddings handed to the LLM, padded on the left.
    """

    record: StageRecord
    output: torch.Tensor | None = None
    lengths: torch.Tensor | None = None


@dataclass(frozen=True)
class Token:
    """A token was written.

    file, segment: indices of the file in the request and of the segment in the file.
    text: the segment's text so far.
    """

    file: int
    segment: int
    id: int
    logprob: float
    text: str


@dataclass(frozen=True)
class SegmentDone:
    """A segment is finished; `result` will not change any more."""

    file: int
    segment: int
    result: SegmentResult


@dataclass(frozen=True)
class Done:
    """A file is finished."""

    file: int
    result: Result


@dataclass(frozen=True)
class Answer:
    """A chat answer so far; `note` says at its end why it is not complete, else None."""

    text: str
    note: str | None = None


Event = StageDone | Token | SegmentDone | Done
