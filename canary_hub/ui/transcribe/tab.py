"""The tab on which speech becomes text: input on the left, what came of it on the right."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr

from ...errors import explain
from ...hub import Hub
from ...share.store import SharedResults
from ..widgets.details import details
from ..widgets.events import QUIET, Waiting
from ..widgets.html import idle, note, status
from ..widgets.picker import Picker, component_pickers, prompt_fields, stack_picker
from ..widgets.player import EXAMPLE, ON_SEEK, SEEK, SENTENCE, playable, player
from ..widgets.run_controls import RunControls
from ..widgets.runs import Moment, transcribe
from ..widgets.share_panel import Share
from .ask import Ask
from .downloads import Downloads
from .html import segments, stages

IDLE = idle("The transcript appears here.")


class LastRun(NamedTuple):
    """What the page showed last, and of which audio file."""

    audio: str | None
    moment: Moment


class TranscribeTab:
    """The widgets of the tab and what happens between them."""

    def __init__(
        self, hub: Hub, first: str, shared: SharedResults | None = None, waiting: Waiting | None = None
    ) -> None:
        self.hub, self.shared, self.waiting = hub, shared, waiting
        self.titles = {part.id: part.title for part in hub.registry.components.values()}
        with gr.Row(elem_classes="ch-columns"):
            with gr.Column(scale=2, min_width=300):
                self._draw_input(first)
            with gr.Column(scale=3, min_width=300):
                self._draw_output()
                self.ask = Ask(hub, self.picker, self.text, first)
        self.details = gr.HTML("", elem_id="details", js_on_load=ON_SEEK)
        self.last = gr.State(LastRun(None, Moment()), time_to_live=3600)
        self._listen()

    def _draw_input(self, first: str) -> None:
        self.audio = player("speech")
        with gr.Row(elem_classes="ch-buttons"):
            self.example = gr.Button("Try digits", size="sm", min_width=90, elem_id="example")
            self.sentence = gr.Button("Try a phrase", size="sm", min_width=90, elem_id="sentence")
            self.video = gr.UploadButton(
                "Use a video", size="sm", min_width=90, file_types=["video", ".mkv"], elem_id="video"
            )
        self.picker: Picker = stack_picker(self.hub, first)
        with gr.Row(elem_classes="ch-buttons"):
            self.run = gr.Button(
                "Transcribe", variant="primary", interactive=False, elem_id="run", scale=2, min_width=90
            )
            self.stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop", scale=1, min_width=70)
        self.detailed = gr.Checkbox(
            label="Show how the audio entered the prompt",
            info="Tokens, audio frames, attention, probabilities. Takes a little longer.",
            elem_id="detailed",
        )
        with gr.Accordion("Prompt", open=False, elem_id="prompt"):
            gr.HTML(note("The audio always keeps its place between the two texts."))
            prompt_fields(self.picker, first)
        with gr.Accordion("Components", open=False, elem_id="components"):
            component_pickers(self.picker, first)

    def _draw_output(self) -> None:
        self.status = gr.HTML(IDLE, elem_id="status")
        self.text = gr.Textbox(
            label="Transcript", lines=5, max_lines=14, interactive=False, buttons=["copy"], elem_id="transcript"
        )
        self.segments = gr.HTML("", elem_id="segments", js_on_load=ON_SEEK)
        self.downloads = Downloads()
        if self.shared:
            with self.downloads.group:
                self.share = Share(self.shared, "transcribe")
        self.stages = gr.HTML("", elem_id="stages")

    def _listen(self) -> None:
        """Wire it up."""
        shown = [
            self.status,
            self.text,
            self.segments,
            self.stages,
            self.downloads.group,
            self.details,
            self.last,
        ]
        self.picker.listen()
        self.ask.listen(self.waiting)
        self.example.click(lambda: playable(EXAMPLE, self.audio), None, [self.audio], **QUIET)
        self.sentence.click(lambda: playable(SENTENCE, self.audio), None, [self.audio], **QUIET)
        self.video.upload(lambda path: path, [self.video], [self.audio], **QUIET)
        kept = [self.audio, self.last]
        controls = RunControls([self.run], self.stop, self.status, shown, self._restore, kept, self.audio, self.waiting)
        controls.on(
            self.run.click,
            self._run,
            [self.audio, self.detailed, *self.picker.inputs],
            lambda ended: self.downloads.listen(self.last, self.audio, ended),
        )
        controls.listen()
        controls.replace_at(self.audio.change, self._new_audio, [self.audio])
        if self.shared:
            self.share.listen(self.last, lambda last: (last.moment.result, last.audio))
        for timed in (self.segments, self.details):
            timed.click(None, None, [self.audio], js=SEEK, **QUIET)

    def _run(self, audio: str | None, detailed: bool, *values: Any) -> Iterator[list[Any]]:
        before = None
        with closing(self._moments(audio, detailed, values)) as moments:
            for moment in moments:
                yield [*self._show(moment, before), LastRun(audio, moment)]
                before = moment

    def _moments(self, audio: str | None, detailed: bool, values: Sequence[Any]) -> Generator[Moment, None, None]:
        try:
            lane = self.picker.lane(values)
        except Exception as error:
            yield Moment("failed", *explain(error))
            return
        yield from transcribe(self.hub, lane, audio, detailed)

    def _show(self, moment: Moment, before: Moment | None) -> list[Any]:
        """The outputs of one moment; what has not changed since `before` is not sent again."""
        same = gr.skip()
        switched = before is None or before.state != moment.state
        return [
            status(moment) if moment.state != "idle" else IDLE,
            same if before and before.text == moment.text else moment.text,
            same if before and before.segments is moment.segments else segments(moment.segments),
            stages(moment, self.titles) if switched else same,
            gr.update(visible=False) if before is None and moment.result is None else same,
            details(moment.result.trace if moment.result else None) if switched else same,
        ]

    def _restore(self, refusal: str | None, audio: str | None, last: LastRun) -> list[Any]:
        """What to show after a run; what was there before stays where the full queue took none."""
        if refusal:
            return [status(Moment("failed", refusal)), *[gr.skip()] * 6]
        if last.audio != audio:
            return self._new_audio(audio)
        moment = last.moment
        if moment.state == "busy":
            moment = replace(moment, state="stopped", message="Stopped.", hint="What was written until then is kept.")
        return [*self._show(moment, None), LastRun(audio, moment)]

    def _new_audio(self, audio: str | None) -> list[Any]:
        return [*self._show(Moment(), None), LastRun(audio, Moment())]
