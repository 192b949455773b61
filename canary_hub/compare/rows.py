"""The measures of a comparison, row by row, for whoever draws a table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..run.figures import milliseconds, size
from ..specs import Stage
from .distances import Distance
from .result import Comparison, FailedLane, LaneResult
from .scoring import Edits

STAGES = {
    "audio": "Reading the audio",
    Stage.PREPROCESSOR.value: "Preprocessor",
    Stage.ENCODER.value: "Encoder",
    Stage.PROJECTOR.value: "Projector",
    Stage.PROMPT_TEMPLATE.value: "Prompt template",
    Stage.LLM.value: "LLM backend",
}
OUTPUTS = {
    Stage.PREPROCESSOR.value: "Features",
    Stage.ENCODER.value: "Encoder output",
    Stage.PROJECTOR.value: "Audio embeddings",
    Stage.PROMPT_TEMPLATE.value: "inputs_embeds",
}


@dataclass(frozen=True)
class Cell:
    """One measure of one lane; empty where there is none.

    text: the measure, with its unit; of two lines where there are two. more: what is said beside it.
    shared: it was computed in another lane, and took this there.
    swapped: the component that stands here instead of lane 1's.
    """

    text: str = ""
    more: str = ""
    shared: bool = False
    swapped: str = ""


@dataclass(frozen=True)
class Measure:
    """One measure of every lane, and the group of measures that it belongs to."""

    group: str
    name: str
    cells: tuple[Cell, ...]


_Read = Callable[[LaneResult], Cell | str]


def rows(comparison: Comparison) -> list[Measure]:
    """All measures, in groups: errors where there is a reference, times, speeds, sizes, distances to lane 1."""

    def row(group: str, name: str, read: _Read) -> Measure:
        measured = ("" if isinstance(lane, FailedLane) else read(lane) for lane in comparison.lanes)
        return Measure(group, name, tuple(Cell(cell) if isinstance(cell, str) else cell for cell in measured))

    errors = (
        [
            row("Errors", "WER, normalised", lambda lane: _rate(lane.errors["whisper"].words)),
            row("Errors", "CER, normalised", lambda lane: _rate(lane.errors["whisper"].characters)),
            row("Errors", "WER, raw", lambda lane: _rate(lane.errors["raw"].words)),
            row("Errors", "CER, raw", lambda lane: _rate(lane.errors["raw"].characters)),
        ]
        if comparison.reference is not None
        else []
    )
    speeds, sizes, distances = "Speed and confidence", "Size", "Distance to lane 1"
    return [
        *errors,
        *(row("Time", name, _spent(comparison, stage)) for stage, name in STAGES.items()),
        row("Time", "All stages", lambda lane: _time(lane.seconds)),
        row(speeds, "Times real time", lambda lane: f"{comparison.speed(lane):.2f}"),
        row(speeds, "First token after", lambda lane: "" if (s := lane.first_token_seconds) is None else _time(s)),
        row(speeds, "Tokens", lambda lane: str(lane.tokens)),
        row(speeds, "Tokens a second", lambda lane: "" if (n := lane.tokens_per_second) is None else f"{n:.1f}"),
        row(speeds, "Confidence", lambda lane: "" if (p := lane.confidence) is None else f"{p:.1%}"),
        row(sizes, "dtype", lambda lane: lane.dtype),
        row(sizes, "Parameters", lambda lane: f"{lane.parameters / 1e6:,.2f} M".replace(",", "\u202f")),
        row(sizes, "Memory", _memory),
        *(row(distances, name, _distance(stage)) for stage, name in OUTPUTS.items()),
        row(distances, "First difference", first_difference),
    ]


def first_difference(lane: LaneResult) -> str:
    """The first stage whose output is not lane 1's; "" for lane 1 itself, and where that is not known."""
    for i, (stage, name) in enumerate(OUTPUTS.items()):
        distance = lane.distances.get(stage)
        if distance is None or (distance.max_abs is None and not i):
            return ""
        if distance.max_abs != 0:  # None too: the same until here, then of another shape
            return name
    return "Text" if any(piece.kind != "equal" for piece in lane.against_first or ()) else "none seen"


def _rate(edits: Edits) -> Cell:
    return Cell(f"{edits.rate:.1%}", f"{edits.wrong} of {edits.reference}")


def _spent(comparison: Comparison, stage: str) -> _Read:
    first = comparison.lanes[0]
    own = first.components.get(stage) if isinstance(first, LaneResult) else None

    def spent(lane: LaneResult) -> Cell:
        cost = lane.stages.get(stage)
        if cost is None:
            return Cell()
        swapped = cost.component if lane is not first and cost.component != own else None
        return Cell(_time(cost.seconds), shared=cost.shared, swapped=swapped or "")

    return spent


def _time(seconds: float) -> str:
    return milliseconds(seconds) if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def _memory(lane: LaneResult) -> Cell:
    return Cell(size(lane.nbytes), f"{size(lane.nbytes_in_common)} in common" if lane.nbytes_in_common else "")


def _distance(stage: str) -> _Read:
    def measured(lane: LaneResult) -> Cell:
        distance = lane.distances.get(stage, Distance())
        if distance.max_abs is None:
            return Cell(more=distance.reason or "")
        return Cell(f"max {distance.max_abs:.1e}\ncosine {distance.cosine:.1e}" if distance.max_abs else "the same")

    return measured
