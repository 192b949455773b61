"""The events of a comparison while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from ..run.events import SegmentDone, StageDone, Token
from .result import Comparison, FailedLane, LaneResult


@dataclass(frozen=True)
class LaneLoading:
    """A lane's stack is being loaded, for `seconds` so far; one comes every half second."""

    lane: int
    seconds: float = 0.0


@dataclass(frozen=True)
class LaneStarted:
    """A lane's stack is loaded.

    segments: how many the audio is cut into.
    warnings: what fits but was not trained together.
    """

    lane: int
    segments: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LaneEvent:
    """Something happened in a lane's run; a `StageDone` comes without its output."""

    lane: int
    event: StageDone | Token | SegmentDone


@dataclass(frozen=True)
class LaneDone:
    """A lane has come to its end. What compares it with others is in the `Comparison` alone."""

    lane: int
    result: LaneResult


@dataclass(frozen=True)
class LaneFailed:
    """A lane has failed; the others go on."""

    lane: int
    failed: FailedLane


Event = LaneLoading | LaneStarted | LaneEvent | LaneDone | LaneFailed | Comparison
