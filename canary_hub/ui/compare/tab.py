"""The tab on which the same audio goes through two to four lanes, side by side."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import PurePath
from typing import Any, NamedTuple

import gradio as gr

from ...compare import Comparison, LaneResult, to_json, to_markdown
from ...errors import explain
from ...hub import Hub
from ...share.store import SharedResults
from ..server.gradio_inside import keep_file
from ..widgets.details import side_by_side
from ..widgets.events import PICKED, QUIET, Waiting
from ..widgets.player import EXAMPLE, ON_SEEK, SEEK, playable, player
from ..widgets.run_controls import RunControls
from ..widgets.share_panel import Share
from . import html as results
from .cards import Cards
from .runs import CompareMoment, opened, run_lanes

IN_TURN, AT_ONCE = "One after another", "At once"


class Export:
    """A comparison as files: JSON that the page opens again, and Markdown for an issue, also to copy."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="compare-export") as self.group:
            with gr.Row(elem_classes="ch-buttons"):
                self.json = gr.DownloadButton("Download JSON", size="sm", min_width=120, elem_id="compare-json")
                self.file = gr.DownloadButton("Download Markdown", size="sm", min_width=120, elem_id="compare-md")
            with gr.Accordion("Markdown, to paste into an issue", open=False, elem_id="compare-markdown"):
                self.markdown = gr.Textbox(
                    label="Markdown", lines=4, max_lines=14, interactive=False, buttons=["copy"], elem_id="compare-text"
                )

    @property
    def outputs(self) -> list[Any]:
        """What `prepare` fills."""
        return [self.group, self.json, self.file, self.markdown]

    def prepare(self, comparisons: Sequence[Comparison]) -> list[Any]:
        """The files, or nothing at all before a comparison has ended."""
        if not comparisons:
            return [gr.update(visible=False), gr.update(value=None), gr.update(value=None), ""]
        stem = PurePath(comparisons[0].file).stem or "audio"
        markdown = to_markdown(comparisons)
        return [
            gr.update(visible=True),
            keep_file(to_json(comparisons).encode(), f"{stem}.comparison.json", self.json),
            keep_file(markdown.encode(), f"{stem}.comparison.md", self.file),
            markdown,
        ]


class LastComparison(NamedTuple):
    """What the tab showed last, and of which audio file."""

    audio: str | None
    moment: CompareMoment
    which: int = 0
    """The comparison that is shown, where a file held several."""


class CompareTab:
    """The widgets of the tab and what happens between them."""

    def __init__(
        self, hub: Hub, first: str, shared: SharedResults | None = None, waiting: Waiting | None = None
    ) -> None:
        self.hub, self.shared, self.waiting = hub, shared, waiting
        with gr.Column(elem_id="compare"):
            with gr.Row(elem_classes="ch-columns"):
                with gr.Column(scale=2, min_width=300):
                    self._draw_audio()
                with gr.Column(scale=3, min_width=300):
                    self._draw_settings()
            self.cards = Cards(hub, first)
            with gr.Row(elem_classes="ch-buttons"):
                self.run = gr.Button(
                    "Compare", variant="primary", interactive=False, elem_id="compare-run", scale=2, min_width=90
                )
                self.stop = gr.Button(
                    "Stop", variant="stop", interactive=False, elem_id="compare-stop", scale=1, min_width=70
                )
            self._draw_result()
        self.last = gr.State(LastComparison(None, CompareMoment()), time_to_live=3600)
        self._listen()

    def _draw_audio(self) -> None:
        self.audio = player("compare-speech", elem_classes="ch-speech")
        with gr.Row(elem_classes="ch-buttons"):
            self.example = gr.Button("Use the example clip", size="sm", min_width=120, elem_id="compare-example")
            self.open = gr.UploadButton(
                "Open a saved comparison", size="sm", min_width=120, file_types=[".json"], elem_id="compare-open"
            )

    def _draw_settings(self) -> None:
        self.reference = gr.Textbox(
            label="Reference text",
            info="What was said. With it, word and character errors are counted.",
            lines=2,
            max_lines=6,
            elem_id="compare-reference",
        )
        self.order = gr.Radio(
            [IN_TURN, AT_ONCE],
            value=IN_TURN,
            label="Lanes run",
            info="One after another, their times are fair. What lanes have in common is computed once.",
            elem_id="compare-order",
        )
        self.detailed = gr.Checkbox(
            label="Show how the audio entered the prompt",
            info="Tokens, audio frames, attention, probabilities. Takes a little longer.",
            elem_id="compare-detailed",
        )

    def _draw_result(self) -> None:
        self.status = gr.HTML(results.IDLE, elem_id="compare-status")
        with gr.Row(elem_classes="ch-buttons"):
            self.which = gr.Dropdown(
                [], label="File", visible=False, filterable=False, min_width=160, elem_id="compare-which"
            )
            self.against = gr.Radio(
                [results.FIRST, results.REFERENCE],
                value=results.FIRST,
                label="Show differences to",
                visible=False,
                min_width=160,
                elem_id="compare-against",
            )
        self.lanes = gr.HTML("", elem_id="compare-lanes")
        self.measures = gr.HTML("", elem_id="compare-measures")
        self.export = Export()
        if self.shared:
            with self.export.group:
                self.share = Share(self.shared, "compare")
        self.details = gr.HTML("", elem_id="compare-details", js_on_load=ON_SEEK)

    def _listen(self) -> None:
        """Wire it up."""
        shown = [
            self.status,
            self.lanes,
            self.measures,
            self.details,
            self.which,
            self.against,
            *self.export.outputs,
            self.last,
        ]
        self.cards.listen()
        self.example.click(lambda: playable(EXAMPLE, self.audio), None, [self.audio], **QUIET)
        kept = [self.audio, self.last]
        controls = RunControls([self.run], self.stop, self.status, shown, self._restore, kept, self.audio, self.waiting)
        inputs = [self.audio, self.reference, self.order, self.detailed, *self.cards.inputs]
        controls.on(self.run.click, self._run, inputs)
        controls.listen()
        controls.replace_at(self.audio.change, self._new_audio, [self.audio])
        controls.replace_at(self.open.upload, self._open, [self.open, self.audio])
        chosen = [self.which, self.against, self.last]
        self.which.input(
            self._chosen, chosen, [self.status, self.lanes, self.measures, self.details, self.last], **PICKED
        )
        self.against.input(self._against, chosen, [self.lanes], **PICKED)
        self.details.click(None, None, [self.audio], js=SEEK, **QUIET)
        if self.shared:
            self.share.listen(self.last, _to_share)

    def _run(self, audio: str | None, reference: str, order: str, detailed: bool, *values: Any) -> Iterator[list[Any]]:
        before = None
        with closing(self._moments(audio, reference, order == IN_TURN, detailed, values)) as moments:
            for moment in moments:
                yield [*self._show(moment, before), LastComparison(audio, moment)]
                before = moment

    def _moments(
        self, audio: str | None, reference: str, in_turn: bool, detailed: bool, values: Sequence[Any]
    ) -> Generator[CompareMoment, None, None]:
        try:
            lanes = self.cards.lanes(values)
        except Exception as error:
            yield CompareMoment("failed", *explain(error))
            return
        yield from run_lanes(self.hub, lanes, audio, reference, detailed, in_turn)

    def _show(self, moment: CompareMoment, before: CompareMoment | None = None) -> list[Any]:
        """The outputs of one moment; what has not changed since `before` is not sent again."""
        first = moment.comparisons[0] if moment.comparisons else None
        lanes = results.transcripts(first) if first else results.running(moment.lanes) if moment.lanes else ""
        if before and before.state == moment.state:
            same = before.message == moment.message
            rest = [gr.skip()] * (4 + len(self.export.outputs))
            return [gr.skip() if same else results.status(moment), lanes, *rest]
        files = [(comparison.file, i) for i, comparison in enumerate(moment.comparisons)]
        return [
            results.status(moment),
            lanes,
            results.measures(first) if first else "",
            _details(first) if first else "",
            gr.update(choices=files, value=0 if files else None, visible=len(files) > 1),
            gr.update(value=results.FIRST, visible=any(c.reference is not None for c in moment.comparisons)),
            *self.export.prepare(moment.comparisons),
        ]

    def _restore(self, refusal: str | None, audio: str | None, last: LastComparison) -> list[Any]:
        """What to show after a run; what was there before stays where the full queue took none."""
        if refusal:
            return [results.status(CompareMoment("failed", refusal)), *[gr.skip()] * (6 + len(self.export.outputs))]
        if last.audio != audio:
            return self._new_audio(audio)
        moment = last.moment.stopped() if last.moment.state == "busy" else last.moment
        return [*self._show(moment), LastComparison(audio, moment)]

    def _new_audio(self, audio: str | None) -> list[Any]:
        return [*self._show(CompareMoment()), LastComparison(audio, CompareMoment())]

    def _open(self, path: str, audio: str | None) -> list[Any]:
        moment = opened(path, PurePath(path).name)
        try:
            return [*self._show(moment), LastComparison(audio, moment)]
        except Exception as error:  # numbers that no run would give
            moment = CompareMoment("failed", *explain(error))
            return [*self._show(moment), LastComparison(audio, moment)]

    def _chosen(self, which: int, against: str, last: LastComparison) -> list[Any]:
        if not last.moment.comparisons:  # forgotten after an hour
            return [gr.skip()] * 5
        comparison = last.moment.comparisons[which]
        return [
            results.status(last.moment, which),
            results.transcripts(comparison, against),
            results.measures(comparison),
            _details(comparison),
            last._replace(which=which),
        ]

    def _against(self, which: int, against: str, last: LastComparison) -> Any:
        if not last.moment.comparisons:
            return gr.skip()
        return results.transcripts(last.moment.comparisons[which], against)


def _to_share(last: LastComparison) -> tuple[Comparison | None, str | None]:
    found = last.moment.comparisons
    # A comparison that was opened from a file is not of the audio in the player.
    return (found[last.which] if found else None), None if last.moment.opened else last.audio


def _details(comparison: Comparison) -> str:
    lanes = enumerate(comparison.lanes, 1)
    traces = [(f"Lane {i}", lane.trace) for i, lane in lanes if isinstance(lane, LaneResult) and lane.trace]
    return side_by_side(traces)
