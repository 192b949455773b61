"""The tab on which the same audio goes through two to four lanes, side by side."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import PurePath
from typing import Any, NamedTuple

import gradio as gr

from ...compare import Comparison, LaneResult
from ...errors import explain
from ...hub import Hub
from ...share.store import SharedResults
from ..server.queue import MODEL, full_queue
from ..transcribe.details import side_by_side
from ..transcribe.tab import EXAMPLE, ON_SEEK, SEEK, playable
from ..widgets.events import ENDING_WITH_AUDIO, Waiting, after, starting
from ..widgets.quiet import PICKED, PRIVATE, QUIET
from ..widgets.share_panel import Share
from . import html as results
from .cards import Cards
from .export import Export
from .runs import CompareMoment, opened, run_lanes
from .tables import measures

IN_TURN, AT_ONCE = "One after another", "At once"


class Shown(NamedTuple):
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
        self.last = gr.State(Shown(None, CompareMoment()), time_to_live=3600)
        self._listen()

    def _draw_audio(self) -> None:
        self.audio = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="Speech",
            elem_id="compare-speech",
            elem_classes="ch-speech",
            buttons=[],
            waveform_options=gr.WaveformOptions(waveform_color="#94a3b8", waveform_progress_color="#0f766e"),
        )
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
        """Wire it up; `_ended` sets the end of a run once more, as in transcribe.py."""
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
        if self.waiting:
            self.waiting.listen(self.run.click)
        self.run.click(None, None, [self.status, self.run, self.stop], js=starting(), **QUIET)
        running = self.run.click(
            self._run,
            [self.audio, self.reference, self.order, self.detailed, *self.cards.inputs],
            shown,
            trigger_mode="once",
            concurrency_id=MODEL,
            concurrency_limit=1,
            **PRIVATE,
        )
        for over in after(
            running.then(self._ended, [self.audio, self.last], shown, **QUIET),
            running.failure(self._turned_away, [self.audio, self.last], shown, **QUIET),  # `then` does not follow
            self.audio.change(self._new_audio, [self.audio], shown, cancels=[running], **QUIET),
            self.open.upload(self._open, [self.open, self.audio], shown, cancels=[running], **QUIET),
        ):
            over(None, [self.audio], [self.run, self.stop], js=ENDING_WITH_AUDIO, **QUIET)
        self.stop.click(None, None, None, cancels=[running], **QUIET)
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
                yield [*self._show(moment, before), Shown(audio, moment)]
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
            measures(first) if first else "",
            _details(first) if first else "",
            gr.update(choices=files, value=0 if files else None, visible=len(files) > 1),
            gr.update(value=results.FIRST, visible=any(c.reference is not None for c in moment.comparisons)),
            *self.export.prepare(moment.comparisons),
        ]

    def _ended(self, audio: str | None, last: Shown) -> list[Any]:
        if last.audio != audio:
            return self._new_audio(audio)
        moment = last.moment.stopped() if last.moment.state == "busy" else last.moment
        return [*self._show(moment), Shown(audio, moment)]

    def _turned_away(self, audio: str | None, last: Shown, request: gr.Request) -> list[Any]:
        busy = full_queue(request) if last.moment.state != "busy" else None  # as in transcribe.py
        if busy is None:
            return self._ended(audio, last)
        return [results.status(CompareMoment("failed", busy)), *[gr.skip()] * (6 + len(self.export.outputs))]

    def _new_audio(self, audio: str | None) -> list[Any]:
        return [*self._show(CompareMoment()), Shown(audio, CompareMoment())]

    def _open(self, path: str, audio: str | None) -> list[Any]:
        moment = opened(path, PurePath(path).name)
        try:
            return [*self._show(moment), Shown(audio, moment)]
        except Exception as error:  # numbers that no run would give
            moment = CompareMoment("failed", *explain(error))
            return [*self._show(moment), Shown(audio, moment)]

    def _chosen(self, which: int, against: str, last: Shown) -> list[Any]:
        if not last.moment.comparisons:  # forgotten after an hour
            return [gr.skip()] * 5
        comparison = last.moment.comparisons[which]
        return [
            results.status(last.moment, which),
            results.transcripts(comparison, against),
            measures(comparison),
            _details(comparison),
            last._replace(which=which),
        ]

    def _against(self, which: int, against: str, last: Shown) -> Any:
        if not last.moment.comparisons:
            return gr.skip()
        return results.transcripts(last.moment.comparisons[which], against)


def _to_share(last: Shown) -> tuple[Comparison | None, str | None]:
    found = last.moment.comparisons
    # A comparison that was opened from a file is not of the audio in the player.
    return (found[last.which] if found else None), None if last.moment.opened else last.audio


def _details(comparison: Comparison) -> str:
    lanes = enumerate(comparison.lanes, 1)
    traces = [(f"Lane {i}", lane.trace) for i, lane in lanes if isinstance(lane, LaneResult) and lane.trace]
    return side_by_side(traces)
