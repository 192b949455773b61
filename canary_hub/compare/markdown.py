"""A comparison as a table, and as Markdown to be pasted into an issue."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from .result import Comparison, FailedLane, LaneResult
from .rows import Cell, rows
from .scoring import Diff

SHOWN_DIFFERENCES = 20
"""How many differing places a list shows."""


def table(comparison: Comparison) -> list[list[str]]:
    """Rows of plain cells: a heading with the lanes, then a row per measure; "-" where there is none."""
    lanes = comparison.lanes
    notes = ["notes", *(_notes(lane) for lane in lanes)]
    return [
        ["", *(f"{number}: {lane.lane}" for number, lane in enumerate(lanes, 1))],
        ["transcript", *(_failure(lane) if isinstance(lane, FailedLane) else lane.text or "-" for lane in lanes)],
        *([row.name, *(_plain(cell) for cell in row.cells)] for row in rows(comparison)),
        *([notes] if set(notes[1:]) != {"-"} else []),
    ]


def differing_words(diffs: Sequence[Diff], limit: int = SHOWN_DIFFERENCES) -> list[str]:
    """The places where two texts differ: "one" -> "won", + "inserted words", - "deleted words"."""
    places = []
    for diff in diffs:
        before, after = f'"{" ".join(diff.reference)}"', f'"{" ".join(diff.hypothesis)}"'
        if diff.kind == "substitute":
            places.append(f"{before} -> {after}")
        elif diff.kind == "insert":
            places.append(f"+ {after}")
        elif diff.kind == "delete":
            places.append(f"- {before}")
    more = len(places) - limit
    return [*places[:limit], f"and {more} more"] if more > 0 else places


def to_markdown(comparisons: Sequence[Comparison]) -> str:
    """A section per file: the table, and the words in which the lanes differ. Texts show as they are, whatever
    Markdown or HTML they spell."""
    return "\n".join(_section(comparison) for comparison in comparisons)


def _section(comparison: Comparison) -> str:
    head, *rows = ([_escaped(cell) for cell in row] for row in table(comparison))
    order = "one lane after the other" if comparison.in_turn else "all lanes at once"
    lines = [f"### {_escaped(comparison.file)} ({comparison.duration:.1f} s, {order})", ""]
    lines += [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    if comparison.reference is not None:
        lines += ["", f"Reference: {_escaped(comparison.reference)}"]
    places = []
    for number, lane in enumerate(comparison.lanes, 1):
        if not isinstance(lane, LaneResult):
            continue
        if lane.against_first is not None:
            places.append(f"- lane {number} against lane 1: {_differences(lane.against_first)}")
        if lane.against_reference is not None:
            places.append(f"- lane {number} against the reference, normalised: {_differences(lane.against_reference)}")
    return "\n".join([*lines, *(["", *places] if places else []), ""])


def _differences(diffs: Sequence[Diff]) -> str:
    return _escaped("; ".join(differing_words(diffs))) or "no differences"


def _escaped(text: str) -> str:
    """Plain text for a cell of a GitHub table: no character of it is markup, line breaks are kept."""
    plain = re.sub(r"([\\`*_\[\]~|$])", r"\\\1", html.escape(text.strip(), quote=False))
    return "<br>".join(plain.splitlines())


def _failure(lane: FailedLane) -> str:
    return f"failed: {lane.message}"


def _plain(cell: Cell) -> str:
    parts = (cell.text, cell.more, "shared" if cell.shared else "", cell.swapped)
    return ", ".join(filter(None, parts)) or "-"


def _notes(lane: LaneResult | FailedLane) -> str:
    segments = () if isinstance(lane, FailedLane) else lane.segments
    return "; ".join(dict.fromkeys(segment.note for segment in segments if segment.note)) or "-"
