"""The tab on which speech becomes text: input on the left, what came of it on the right."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from ...errors import explain
from ...hub import Hub
from ...share.store import SharedResults
from ..server.gradio_inside import keep_file
from ..server.queue import MODEL, full_queue
from ..widgets import html as results
from ..widgets.events import ENDING_WITH_AUDIO, Waiting, after, starting
from ..widgets.picker import Picker, component_pickers, prompt_fields, stack_picker
from ..widgets.quiet import PRIVATE, QUIET
from ..widgets.runs import Moment, transcribe
from ..widgets.share_panel import Share
from .ask import Ask
from .details import details
from .downloads import Downloads

ON_SEEK = "element.addEventListener('click', (e) => e.target.closest('[data-seek]') && trigger('click'))"
SEEK = "() => ({__type__: 'update', playback_position: window.canaryHub.seconds})"
"""Runs in the browser alone: moves the player to where the last click on a time pointed."""

EXAMPLE = Path(__file__).parents[2] / "clips" / "digits.flac"
"""Digits, spoken by a text-to-speech voice."""
SENTENCE = EXAMPLE.with_name("sentence.flac")
"""A sentence, spoken by the same voice."""

IDLE = '<div class="ch-status ch-idle" role="status">The transcript appears here.</div>'


def playable(clip: Path, audio: gr.Audio) -> str:
    """A copy for the player: gradio sends the package's own files only if the server was started in a folder above."""
    return keep_file(clip.read_bytes(), clip.name, audio)


class Shown(NamedTuple):
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
        self.last = gr.State(Shown(None, Moment()), time_to_live=3600)
        self._listen()

    def _draw_input(self, first: str) -> None:
        self.audio = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="Speech",
            elem_id="speech",
            buttons=[],
            waveform_options=gr.WaveformOptions(waveform_color="#94a3b8", waveform_progress_color="#0f766e"),
        )
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
            gr.HTML('<p class="ch-note">The audio always keeps its place between the two texts.</p>')
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
        """Wire it up.

        What is shown at the end of a run is set once more after it (`_ended`), from what the run left in
        `self.last`: when a run is cancelled, a late moment of it may arrive after the answer to the click.
        Only then may the next run be asked for.
        """
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
        if self.waiting:  # before the runs: what a click starts in the browser, it starts one after the other
            ask = self.ask
            self.waiting.listen(self.run.click, ask.summarise.click, ask.actions.click, ask.question.submit)
        self.ask.listen()
        self.example.click(lambda: playable(EXAMPLE, self.audio), None, [self.audio], **QUIET)
        self.sentence.click(lambda: playable(SENTENCE, self.audio), None, [self.audio], **QUIET)
        self.video.upload(lambda path: path, [self.video], [self.audio], **QUIET)
        self.run.click(None, None, [self.status, self.run, self.stop], js=starting(), **QUIET)
        running = self.run.click(
            self._run,
            [self.audio, self.detailed, *self.picker.inputs],
            shown,
            trigger_mode="once",
            concurrency_id=MODEL,
            concurrency_limit=1,
            **PRIVATE,
        )
        ended = running.then(self._ended, [self.audio, self.last], shown, **QUIET)
        # What the queue turns away ends too, and `then` does not follow.
        away = running.failure(self._turned_away, [self.audio, self.last], shown, **QUIET)
        prepared = self.downloads.listen(self.last, self.audio, ended)
        if self.shared:
            self.share.listen(self.last, lambda shown: (shown.moment.result, shown.audio))
        self.stop.click(None, None, None, cancels=[running], **QUIET)
        changed = self.audio.change(self._new_audio, [self.audio], shown, cancels=[running], **QUIET)
        for over in (ended.failure, *after(prepared, away, changed)):
            over(None, [self.audio], [self.run, self.stop], js=ENDING_WITH_AUDIO, **QUIET)
        for timed in (self.segments, self.details):
            timed.click(None, None, [self.audio], js=SEEK, **QUIET)

    def _run(self, audio: str | None, detailed: bool, *values: Any) -> Iterator[list[Any]]:
        before = None
        with closing(self._moments(audio, detailed, values)) as moments:
            for moment in moments:
                yield [*self._show(moment, before), Shown(audio, moment)]
                before = moment

    def _moments(self, audio: str | None, detailed: bool, values: Sequence[Any]) -> Generator[Moment, None, None]:
        try:
            choice = self.picker.choice(values)
        except Exception as error:
            yield Moment("failed", *explain(error))
            return
        yield from transcribe(self.hub, choice, audio, detailed)

    def _show(self, moment: Moment, before: Moment | None) -> list[Any]:
        """The outputs of one moment; what has not changed since `before` is not sent again."""
        same = gr.skip()
        switched = before is None or before.state != moment.state
        return [
            results.status(moment) if moment.state != "idle" else IDLE,
            same if before and before.text == moment.text else moment.text,
            same if before and before.segments is moment.segments else results.segments(moment.segments),
            results.stages(moment, self.titles) if switched else same,
            gr.update(visible=False) if before is None and moment.result is None else same,
            details(moment.result.trace if moment.result else None) if switched else same,
        ]

    def _ended(self, audio: str | None, last: Shown) -> list[Any]:
        if last.audio != audio:
            return self._new_audio(audio)
        moment = last.moment
        if moment.state == "busy":
            moment = replace(moment, state="stopped", message="Stopped.", hint="What was written until then is kept.")
        return [*self._show(moment, None), Shown(audio, moment)]

    def _turned_away(self, audio: str | None, last: Shown, request: gr.Request) -> list[Any]:
        """A run that had begun was stopped, which gradio calls a failure too."""
        busy = full_queue(request) if last.moment.state != "busy" else None
        if busy is None:
            return self._ended(audio, last)
        return [results.status(Moment("failed", busy)), *[gr.skip()] * 6]

    def _new_audio(self, audio: str | None) -> list[Any]:
        return [*self._show(Moment(), None), Shown(audio, Moment())]
