"""Stacks side by side on the same audio: what they have in common is computed once, what differs is shown."""

from .distances import Distance
from .events import Event, LaneDone, LaneEvent, LaneFailed, LaneLoading, LaneStarted
from .markdown import differing_words, table, to_markdown
from .result import Comparison, FailedLane, LaneResult, LaneStage, from_json, to_json
from .rows import Cell, Measure, first_difference, rows
from .run import MAX_LANES, MIN_LANES, compare

__all__ = [
    "MAX_LANES",
    "MIN_LANES",
    "Cell",
    "Comparison",
    "Distance",
    "Event",
    "FailedLane",
    "LaneDone",
    "LaneEvent",
    "LaneFailed",
    "LaneLoading",
    "LaneResult",
    "LaneStage",
    "LaneStarted",
    "Measure",
    "compare",
    "differing_words",
    "first_difference",
    "from_json",
    "rows",
    "table",
    "to_json",
    "to_markdown",
]
