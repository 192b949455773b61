"""A comparison as a table, and as Markdown to be pasted into an issue."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from .distances import Distance
from .result import Comparison, FailedLane, LaneResult, LaneStage
from .scoring import Diff

SHOWN_DIFFERENCES = 20
"""How many differing places a list shows."""

_DISTANCES = {
    "preprocessor": "features",
    "encoder": "encoder output",
    "projector": "audio embeddings",
    "prompt-template": "inputs_embeds",
}


def table(comparison: Comparison) -> list[list[str]]:
    """Rows of plain cells: a heading with the lanes, then a row per measure; "-" where there is none."""
    lanes = comparison.lanes

    def row(name: str, cell: Callable[[LaneResult], str | None]) -> list[str]:
        return [name, *("-" if isinstance(lane, FailedLane) else cell(lane) or "-" for lane in lanes)]

    stages = list(dict.fromkeys(stage for lane in lanes if isinstance(lane, LaneResult) for stage in lane.stages))
    rows = [
        ["", *(f"{number}: {lane.lane}" for number, lane in enumerate(lanes, 1))],
        ["transcript", *(_failure(lane) if isinstance(lane, FailedLane) else lane.text or "-" for lane in lanes)],
    ]
    if comparison.reference is not None:
        rows += [
            row("WER", lambda lane: f"{lane.errors['whisper'].wer:.2%}"),
            row("CER", lambda lane: f"{lane.errors['whisper'].cer:.2%}"),
            row("WER raw", lambda lane: f"{lane.errors['raw'].wer:.2%}"),
            row("CER raw", lambda lane: f"{lane.errors['raw'].cer:.2%}"),
        ]
    rows += [row(f"{stage}, s", lambda lane, stage=stage: _seconds(lane.stages.get(stage))) for stage in stages]  # type: ignore[misc]
    rows += [
        row("all, s", lambda lane: f"{lane.seconds:.3f}"),
        row("times real time", lambda lane: f"{comparison.speed(lane):.2f}"),
        row("first token, s", lambda lane: _number(lane.first_token_seconds, ".3f")),
        row("tokens", lambda lane: str(lane.tokens)),
        row("tokens per second", lambda lane: _number(lane.tokens_per_second, ".1f")),
        row("confidence", lambda lane: _number(lane.confidence, ".1%")),
        row("dtype", lambda lane: lane.dtype),
        row("parameters, million", lambda lane: f"{lane.parameters / 1e6:.2f}"),
        row("memory, MB", _memory),
    ]
    for stage, name in _DISTANCES.items():
        rows.append(
            row(f"{name}: max, cosine distance", lambda lane, stage=stage: _distance(lane.distances.get(stage)))  # type: ignore[misc]
        )
    notes = row("notes", lambda lane: "; ".join(dict.fromkeys(s.note for s in lane.segments if s.note)))
    return [*rows, notes] if set(notes[1:]) != {"-"} else rows


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
    differences = []
    for number, lane in enumerate(comparison.lanes, 1):
        if not isinstance(lane, LaneResult):
            continue
        if lane.against_first is not None:
            differences.append(f"- lane {number} against lane 1: {_differences(lane.against_first)}")
        if lane.against_reference is not None:
            differences.append(
                f"- lane {number} against the reference, normalised: {_differences(lane.against_reference)}"
            )
    return "\n".join([*lines, *(["", *differences] if differences else []), ""])


def _differences(diffs: Sequence[Diff]) -> str:
    return _escaped("; ".join(differing_words(diffs))) or "no differences"


def _escaped(text: str) -> str:
    """Plain text for a cell of a GitHub table: no character of it is markup, line breaks are kept."""
    plain = re.sub(r"([\\`*_\[\]~|$])", r"\\\1", html.escape(text.strip(), quote=False))
    return "<br>".join(plain.splitlines())


def _failure(lane: FailedLane) -> str:
    return f"failed: {lane.message}"


def _seconds(stage: LaneStage | None) -> str | None:
    if stage is None:
        return None
    return f"{stage.seconds:.3f}, shared" if stage.shared else f"{stage.seconds:.3f}"


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)


def _memory(lane: LaneResult) -> str:
    in_common = f", {lane.nbytes_in_common / 1e6:.1f} in common" if lane.nbytes_in_common else ""
    return f"{lane.nbytes / 1e6:.1f}{in_common}"


def _distance(distance: Distance | None) -> str | None:
    if distance is None:
        return None
    if distance.max_abs is None:
        return distance.reason
    return f"{distance.max_abs:.2e}, {distance.cosine:.2e}" if distance.max_abs else "0"
