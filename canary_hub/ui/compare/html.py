"""The lanes side by side as HTML: what they are doing, then their transcripts with the differences marked, and a table
of measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from ...compare import Comparison, FailedLane, LaneResult, rows
from ...compare.scoring import Diff
from ...run.figures import clock, count
from ..widgets.html import idle, remark
from ..widgets.templates import render
from .runs import CompareMoment, LaneMoment

FIRST, REFERENCE = "Lane 1", "Reference"
"""What the transcripts can be compared to."""

IDLE = idle("The transcripts appear here, side by side.")


def status(moment: CompareMoment, shown: int = 0) -> str:
    """The status line; of the comparisons the one with index `shown` is described."""
    if moment.state == "idle":
        return IDLE
    if moment.state == "done":
        comparison = moment.comparisons[shown]
        order = "one after another" if comparison.in_turn else "at once, so they waited for each other"
        return render("compare/done.html", comparison=comparison, order=order, opened=moment.opened)
    finished = sum(lane.state in ("done", "failed") for lane in moment.lanes)
    share = finished / len(moment.lanes) if finished else None
    return render("status.html", state=moment.state, message=moment.message, hint=moment.hint, share=share, warnings=())


def running(lanes: Sequence[LaneMoment]) -> str:
    """The lanes while they run, and when they were stopped."""
    return render("compare/running.html", lanes=lanes)


def transcripts(comparison: Comparison, against: str = FIRST) -> str:
    """The finished lanes, with word differences to the first one or to the reference."""
    if comparison.reference is None:
        against = FIRST
    compared_to = "lane 1, letter by letter"
    if against == REFERENCE:
        compared_to = "the reference, both as Whisper's normaliser writes them"
    return render(
        "compare/transcripts.html",
        reference=comparison.reference,
        lanes=[_transcript(lane, number, against) for number, lane in enumerate(comparison.lanes, 1)],
        compared_to=compared_to if len(comparison.failed) < len(comparison.lanes) else "",
    )


def _transcript(
    lane: LaneResult | FailedLane, number: int, against: str
) -> tuple[LaneResult | FailedLane, Sequence[Diff] | None, str, list[str]]:
    """The lane, its text in pieces, how it differs, and which of its segments are to be doubted."""
    if isinstance(lane, FailedLane):
        return lane, None, "", []
    pieces = lane.against_reference if against == REFERENCE else lane.against_first
    if pieces is not None:
        difference = tally(pieces)
    elif number == 1:
        difference = "The other lanes are compared to this one."
    else:
        difference = "Lane 1 failed: nothing to compare to."
    many = len(lane.segments) > 1
    remarks = [
        f"{clock(segment.start)}: {doubt}" if many else doubt for segment in lane.segments if (doubt := remark(segment))
    ]
    return lane, pieces, difference, remarks


def tally(pieces: Sequence[Diff]) -> str:
    """ "2 words substituted, 1 inserted", or that all words are the same."""
    words: Counter[str] = Counter()
    for piece in pieces:
        words[piece.kind] += max(len(piece.reference), len(piece.hypothesis))
    kinds = {"substitute": "substituted", "insert": "inserted", "delete": "deleted"}
    parts = [f"{words[kind]} {done}" for kind, done in kinds.items() if words[kind]]
    if not parts:
        return "The same words."
    return f"{count(sum(words[kind] for kind in kinds), 'difference')}: {', '.join(parts)}."


def measures(comparison: Comparison) -> str:
    """The table: rows are measures, columns are lanes."""
    lanes = comparison.lanes
    if len(comparison.failed) == len(lanes):
        return ""
    groups = [(group, list(own)) for group, own in groupby(rows(comparison), key=lambda row: row.group)]
    width = f"{7 + 6.5 * len(lanes):g}"
    return render("compare/measures.html", lanes=[lane.lane for lane in lanes], groups=groups, width=width)
