"""The lanes side by side as HTML: what they are doing, then their transcripts with the differences marked.

Everything that comes from a visitor, a file or a model is escaped here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from ...compare import Comparison, FailedLane, LaneResult
from ...compare.scoring import Diff
from ..widgets.html import clock, count, remark, seconds
from .runs import CompareMoment, LaneMoment

FIRST, REFERENCE = "Lane 1", "Reference"
"""What the transcripts' differences are told against."""

IDLE = '<div class="ch-status ch-idle" role="status">The transcripts appear here, side by side.</div>'


def status(moment: CompareMoment, shown: int = 0) -> str:
    """The status line; of the comparisons the one with index `shown` is described."""
    if moment.state == "idle":
        return IDLE
    role = 'role="alert"' if moment.state == "failed" else 'role="status" aria-live="polite"'
    if moment.state == "done":
        inner = _summary(moment.comparisons[shown], moment.opened)
    else:
        inner = f"<strong>{_lines(moment.message)}</strong>"
        if moment.hint:
            inner += f"<span>{_lines(moment.hint)}</span>"
    if moment.state == "busy":
        inner += f'<progress max="1"{_share(moment)} aria-label="Progress"></progress>'
    return f'<div class="ch-status ch-{moment.state}" {role}>{inner}</div>'


def _share(moment: CompareMoment) -> str:
    finished = sum(lane.state in ("done", "failed") for lane in moment.lanes)
    return f' value="{finished / len(moment.lanes):.3f}"' if finished else ""


def _summary(comparison: Comparison, opened: str) -> str:
    order = "one after another" if comparison.in_turn else "at once, so they waited for each other"
    lanes = f"{len(comparison.lanes)} lanes on {seconds(comparison.duration)} of audio"
    failed = (
        f'<span class="ch-warning">{count(len(comparison.failed), "lane")} failed.</span>' if comparison.failed else ""
    )
    if opened:
        return (
            f"<strong>Saved comparison: {lanes} of {escape(comparison.file)}</strong>"
            f"<span>Opened from {escape(opened)}; nothing was run. The lanes ran {order}.</span>{failed}"
        )
    return f"<strong>{lanes}, {order}</strong>{failed}"


def running(lanes: Sequence[LaneMoment]) -> str:
    """The lanes while they run, and when they were stopped."""
    return _side_by_side(
        [
            _lane(
                number,
                lane.lane,
                lane.state,
                f'<p class="ch-quiet">{_lines(lane.message)}</p>'
                if lane.state != "failed"
                else _failure(lane.message, lane.hint),
                f'<p class="ch-text">{escape(lane.text)}</p>' if lane.text else "",
                _warnings(lane.warnings),
            )
            for number, lane in enumerate(lanes, 1)
        ]
    )


def transcripts(comparison: Comparison, against: str = FIRST) -> str:
    """The finished lanes, with word differences to the first one or to the reference."""
    if comparison.reference is None:
        against = FIRST
    lanes = []
    for number, lane in enumerate(comparison.lanes, 1):
        if isinstance(lane, FailedLane):
            lanes.append(_lane(number, lane.lane, "failed", _failure(lane.message, lane.hint)))
        else:
            lanes.append(_lane(number, lane.lane, "done", *_finished(lane, number, against), _warnings(lane.warnings)))
    reference = (
        f'<p class="ch-reference"><span class="ch-quiet">Reference:</span> {escape(comparison.reference)}</p>'
        if comparison.reference
        else ""
    )
    return f'<div class="ch-compared">{reference}{_side_by_side(lanes)}{_legend(comparison, against)}</div>'


def _finished(lane: LaneResult, number: int, against: str) -> list[str]:
    pieces = lane.against_reference if against == REFERENCE else lane.against_first
    if not lane.text and not pieces:
        text = '<p class="ch-quiet">(no words)</p>'
    else:
        text = f'<p class="ch-text">{marked(pieces) if pieces is not None else escape(lane.text)}</p>'
    if pieces is not None:
        said = tally(pieces)
    else:
        said = "The other lanes are compared to this one." if number == 1 else "Lane 1 failed: nothing to compare to."
    return [text, f'<p class="ch-quiet">{said}</p>', _remarks(lane)]


def marked(pieces: Sequence[Diff]) -> str:
    """A text with its differences as `ins` and `del` elements; page.css gives them signs, and words to be read out."""
    return " ".join(_piece(piece) for piece in pieces)


def _piece(piece: Diff) -> str:
    before, after = escape(" ".join(piece.reference)), escape(" ".join(piece.hypothesis))
    if piece.kind == "equal":
        return after
    if piece.kind == "insert":
        return f"<ins>{after}</ins>"
    if piece.kind == "delete":
        return f"<del>{before}</del>"
    return f'<span class="ch-substituted"><del>{before}</del> <ins>{after}</ins></span>'


def tally(pieces: Sequence[Diff]) -> str:
    """ "2 words substituted, 1 inserted", or that all words are the same."""
    words: Counter[str] = Counter()
    for piece in pieces:
        words[piece.kind] += max(len(piece.reference), len(piece.hypothesis))
    said = [
        f"{words[kind]} {done}"
        for kind, done in (("substitute", "substituted"), ("insert", "inserted"), ("delete", "deleted"))
        if words[kind]
    ]
    if not said:
        return "The same words."
    total = sum(words[kind] for kind in ("substitute", "insert", "delete"))
    return f"{count(total, 'difference')}: {', '.join(said)}."


def _legend(comparison: Comparison, against: str) -> str:
    if all(isinstance(lane, FailedLane) for lane in comparison.lanes):
        return ""
    to = (
        "the reference, both as Whisper's normaliser writes them"
        if against == REFERENCE
        else "lane 1, letter by letter"
    )
    return (
        f'<p class="ch-legend ch-note">Words compared to {to}: <ins>inserted</ins>, <del>deleted</del>, '
        '<span class="ch-substituted"><del>replaced</del> <ins>by this</ins></span>.</p>'
    )


def _remarks(lane: LaneResult) -> str:
    found = [(segment, note) for segment in lane.segments if (note := remark(segment))]
    return "".join(
        f'<p class="ch-warning">{f"{clock(segment.start)}: " if len(lane.segments) > 1 else ""}{escape(note)}.</p>'
        for segment, note in found
    )


def _warnings(warnings: Sequence[str]) -> str:
    return "".join(f'<p class="ch-warning">Note: {escape(warning)}.</p>' for warning in warnings)


def _failure(message: str, hint: str) -> str:
    more = f"<p>{_lines(hint)}</p>" if hint else ""
    return f"<p><strong>Failed: {_lines(message)}</strong></p>{more}"


def _lane(number: int, line: str, state: str, *inner: str) -> str:
    return (
        f'<li class="ch-side-lane ch-is-{state}"><h3>Lane {number}</h3><code>{escape(line)}</code>{"".join(inner)}</li>'
    )


def _side_by_side(lanes: Sequence[str]) -> str:
    return f'<ol class="ch-side">{"".join(lanes)}</ol>'


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")
