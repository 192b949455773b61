"""The measures of a comparison as one HTML table: errors, times, sizes, and distances to lane 1."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from ...compare import Comparison, Distance, FailedLane, LaneResult
from ...compare.scoring import Edits
from ...specs import Stage
from ..widgets.html import milliseconds, size

Cell = Callable[[LaneResult], str]

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
NONE = '<span class="ch-quiet">-</span>'


def measures(comparison: Comparison) -> str:
    """Rows are measures, columns are lanes."""
    lanes = comparison.lanes
    if all(isinstance(lane, FailedLane) for lane in lanes):
        return ""
    head = "".join(
        f'<th scope="col">Lane {number}<br><code>{escape(lane.lane)}</code></th>'
        for number, lane in enumerate(lanes, 1)
    )

    def group(title: str, rows: list[tuple[str, Cell]]) -> str:
        lines = "".join(
            f'<tr><th scope="row">{name}</th>'
            + "".join(f"<td>{NONE if isinstance(lane, FailedLane) else cell(lane) or NONE}</td>" for lane in lanes)
            + "</tr>"
            for name, cell in rows
        )
        heading = f'<th scope="rowgroup" colspan="{len(lanes) + 1}">{title}</th>'
        return f'<tbody><tr class="ch-group">{heading}</tr>{lines}</tbody>'

    groups = [
        group("Time", _times(comparison)),
        group("Speed and confidence", _speeds(comparison)),
        group("Size", _sizes()),
        group("Distance to lane 1", _distances()),
    ]
    if comparison.reference is not None:
        groups.insert(0, group("Errors", _errors()))
    return (
        '<div class="ch-wide ch-measures" role="region" aria-label="Measures" tabindex="0">'
        f'<table class="ch-table" style="min-width:{7 + 6.5 * len(lanes):g}rem">'
        f"<thead><tr><td></td>{head}</tr></thead>{''.join(groups)}</table></div>"
        '<p class="ch-note ch-quiet"><span class="ch-shared">shared</span> was computed once, in another lane; '
        "the time is what it took there. Loading the models is not counted.</p>"
    )


def _errors() -> list[tuple[str, Cell]]:
    return [
        ("WER, normalised", lambda lane: _rate(lane.errors["whisper"].words)),
        ("CER, normalised", lambda lane: _rate(lane.errors["whisper"].characters)),
        ("WER, raw", lambda lane: _rate(lane.errors["raw"].words)),
        ("CER, raw", lambda lane: _rate(lane.errors["raw"].characters)),
    ]


def _rate(edits: Edits) -> str:
    return f'{edits.rate:.1%} <span class="ch-quiet">{edits.wrong} of {edits.reference}</span>'


def _times(comparison: Comparison) -> list[tuple[str, Cell]]:
    first = comparison.lanes[0]
    own = first.components if isinstance(first, LaneResult) else {}

    def cell(stage: str) -> Cell:
        def time(lane: LaneResult) -> str:
            spent = lane.stages.get(stage)
            if spent is None:
                return ""
            swapped = spent.component is not None and lane is not first and spent.component != own.get(stage)
            part = f'<br><code class="ch-swapped">{escape(spent.component or "")}</code>' if swapped else ""
            mark = ' <span class="ch-shared">shared</span>' if spent.shared else ""
            return f"{_time(spent.seconds)}{mark}{part}"

        return time

    return [
        *((name, cell(stage)) for stage, name in STAGES.items()),
        ("All stages", lambda lane: _time(lane.seconds)),
    ]


def _speeds(comparison: Comparison) -> list[tuple[str, Cell]]:
    return [
        ("Times real time", lambda lane: f"{comparison.speed(lane):.2f}"),
        ("First token after", lambda lane: "" if (s := lane.first_token_seconds) is None else _time(s)),
        ("Tokens", lambda lane: str(lane.tokens)),
        ("Tokens a second", lambda lane: "" if (n := lane.tokens_per_second) is None else f"{n:.1f}"),
        ("Confidence", lambda lane: "" if (p := lane.confidence) is None else f"{p:.1%}"),
    ]


def _time(value: float) -> str:
    return milliseconds(value) if value >= 0.01 else f"{value * 1000:.1f} ms"


def _sizes() -> list[tuple[str, Cell]]:
    def memory(lane: LaneResult) -> str:
        common = (
            f' <span class="ch-quiet">{size(lane.nbytes_in_common)} in common</span>' if lane.nbytes_in_common else ""
        )
        return size(lane.nbytes) + common

    return [
        ("dtype", lambda lane: escape(lane.dtype)),
        ("Parameters", lambda lane: f"{lane.parameters / 1e6:,.2f} M".replace(",", "\u202f")),
        ("Memory", memory),
    ]


def _distances() -> list[tuple[str, Cell]]:
    rows: list[tuple[str, Cell]] = [
        (name, lambda lane, stage=stage: _distance(lane.distances.get(stage)))  # type: ignore[misc]
        for stage, name in OUTPUTS.items()
    ]
    return [*rows, ("First difference", first_difference)]


def _distance(distance: Distance | None) -> str:
    if distance is None:
        return ""
    if distance.max_abs is None:
        return f'<span class="ch-quiet">{escape(distance.reason or "")}</span>'
    return f"max {distance.max_abs:.1e}<br>cosine {distance.cosine:.1e}" if distance.max_abs else "the same"


def first_difference(lane: LaneResult) -> str:
    """The first stage whose output is not lane 1's; "" for lane 1 itself, and where that is not known."""
    for i, (stage, name) in enumerate(OUTPUTS.items()):
        distance = lane.distances.get(stage)
        if distance is None or (distance.max_abs is None and not i):
            return ""
        if distance.max_abs != 0:  # None too: the same until here, then of another shape
            return name
    return "Text" if any(piece.kind != "equal" for piece in lane.against_first or ()) else "none seen"
