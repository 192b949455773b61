"""The tab that shows how such a model is made: five explorations of any stack, in the order of a lecture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import gradio as gr

from ...errors import HubError
from ...explore.exploration import Exploration
from ...explore.subject import Subject
from ...hub import Hub
from ...run.figures import seconds
from ..server.gradio_inside import keep_file
from ..widgets.events import PRIVATE, Waiting
from ..widgets.html import idle, note, status
from ..widgets.player import player
from ..widgets.run_controls import RunControls
from ..widgets.runs import Moment
from .html import shown
from .runs import HEARING, ExploreMoment, Key, computes, run_exploration

LOOK = "explore"
"""Concurrency id of what is shown at once: it computes nothing and does not wait for models."""

LESSONS = {
    "structure": ("Structure", "What the language model is made of, and where its parameters sit."),
    "lora": ("LoRA", "How a small adapter teaches a finished model something new."),
    "weights": ("Weights", "What the checkpoint file holds, and where each tensor goes."),
    "injection": ("Injection", "How sound takes the place of one token in the prompt."),
    "generation": ("Generation", "How the answer is written, token by token, and what ends it."),
}
"""Exploration -> its title, and what one learns."""

IDLE = idle("Choose one of the five above.")
READY = idle("This one runs the model on a clip. It takes some seconds: press Show.")
KEPT = 12
"""So many results are kept for a visitor who goes back to them."""


class LastExploration(NamedTuple):
    """What the tab showed last, of what, and what it has shown before."""

    key: Key
    moment: ExploreMoment
    kept: tuple[tuple[Key, ExploreMoment], ...] = ()


class ExploreTab:
    """The widgets of the tab and what happens between them."""

    def __init__(self, hub: Hub, first: str, waiting: Waiting | None = None) -> None:
        self.hub, self.waiting = hub, waiting
        with gr.Column(elem_id="explore"):
            self._draw_choice(first)
            with gr.Row(visible=False, elem_classes="ch-buttons", elem_id="explore-buttons") as self.buttons:
                self.run = gr.Button("Show", variant="primary", elem_id="explore-run", scale=2, min_width=90)
                self.stop = gr.Button(
                    "Stop", variant="stop", interactive=False, elem_id="explore-stop", scale=1, min_width=70
                )
            self.status = gr.HTML(IDLE, elem_id="explore-status")
            self.sections = gr.HTML("", elem_id="explore-sections")
            self.json = gr.DownloadButton(
                "Download all of it as JSON", size="sm", visible=False, min_width=120, elem_id="explore-json"
            )
        self.last = gr.State(LastExploration(Key(first, None), ExploreMoment()), time_to_live=3600)
        self._listen()

    def _draw_choice(self, first: str) -> None:
        with gr.Row(elem_classes="ch-columns"):
            with gr.Column(scale=2, min_width=280):
                choices = [(spec.title or spec.name, spec.name) for spec in self.hub.registry.stacks.values()]
                self.stack = gr.Dropdown(
                    choices, value=first, label="Stack", filterable=len(choices) > 8, elem_id="explore-stack"
                )
            with gr.Column(scale=3, min_width=280):
                self.note = gr.HTML(self._note(first), elem_id="explore-note")
        lessons = [(f"{i}. {title}\n{learn}", name) for i, (name, (title, learn)) in enumerate(LESSONS.items(), 1)]
        self.which = gr.Radio(lessons, label="What to look at", elem_id="explore-which")
        with gr.Accordion("Listen to another clip", open=False, visible=False, elem_id="explore-clip") as self.clip:
            gr.HTML(note("Without one, the example is heard: digits, spoken by a synthetic voice."))
            self.audio = player("explore-speech")

    def _note(self, stack: str) -> str:
        try:
            missing = Subject(self.hub, stack).missing
        except HubError as error:
            return note("", warning=error.message)
        if missing:
            how = (
                "Its weights are not on this machine. What follows from its configuration is shown; nothing is fetched."
            )
        else:
            how = "Shown with its weights, which are on this machine."
        return note(self.hub.registry.stack(stack).note, quiet=how)

    def _listen(self) -> None:
        """Wire it up."""
        key = [self.stack, self.which, self.audio]
        outputs = [self.status, self.sections, self.buttons, self.clip, self.json, self.last]
        kept = [*key, self.last]
        controls = RunControls([self.run], self.stop, self.status, outputs, self._restore, kept, waiting=self.waiting)
        controls.on(self.run.click, self._run, kept)
        controls.listen()
        looking = gr.on(
            [self.stack.input, self.which.input, self.audio.change],
            self._look,
            kept,
            [self.note, *outputs],
            trigger_mode="always_last",
            cancels=controls.running,
            concurrency_id=LOOK,
            concurrency_limit=4,
            **PRIVATE,
        )
        controls.restore_at(looking.failure)

    def _look(self, stack: str, name: str | None, audio: str | None, last: LastExploration) -> Iterator[list[Any]]:
        """Something else was chosen: what was shown before is shown again, what needs no model at once."""
        key, note = Key(stack, name, audio), self._note(stack)
        before = dict(last.kept).get(key, ExploreMoment())
        if before.found or name is None or computes(self.hub, key):
            yield [note, *self._show(key, before), LastExploration(key, before, last.kept)]
            return
        for moment in run_exploration(self.hub, key):
            yield [note, *self._show(key, moment), _after(key, moment, last)]

    def _run(self, stack: str, name: str | None, audio: str | None, last: LastExploration) -> Iterator[list[Any]]:
        key, before = Key(stack, name, audio), None
        with closing(run_exploration(self.hub, key)) as moments:
            for moment in moments:
                outputs = [*self._show(key, moment), _after(key, moment, last)]
                yield outputs if moment != before else [gr.skip()] * len(outputs)
                before = moment

    def _restore(
        self, refusal: str | None, stack: str, name: str | None, audio: str | None, last: LastExploration
    ) -> list[Any]:
        if refusal:
            return [status(Moment("failed", refusal)), *[gr.skip()] * 5]
        key = Key(stack, name, audio)
        moment = last.moment if last.key == key else dict(last.kept).get(key, ExploreMoment())
        if moment.state == "busy":
            moment = ExploreMoment("stopped", "Stopped.", "Press Show to begin again.")
        return [*self._show(key, moment), LastExploration(key, moment, last.kept)]

    def _show(self, key: Key, moment: ExploreMoment) -> list[Any]:
        """The outputs of one moment, except what is remembered of it."""
        found = moment.found
        model = computes(self.hub, key)
        title = LESSONS[key.name][0] if key.name else ""
        return [
            self._status(key, moment, model),
            shown(found, title) if found else "",
            gr.update(visible=model and not found),
            gr.update(visible=key.name in HEARING),
            gr.update(value=self._file(key, found) if found else None, visible=bool(found)),
        ]

    def _status(self, key: Key, moment: ExploreMoment, model: bool) -> str:
        if moment.found:
            spent, clip = seconds(moment.seconds), getattr(moment.found, "clip", "")
            how = f"with its weights, on {clip}" if model and clip else "without running the model"
            return status(Moment("done", f"{moment.found.stack}, {how}: {spent}"))
        if moment.state == "idle":
            return READY if model else IDLE
        return status(Moment(moment.state, moment.message, moment.hint))

    def _file(self, key: Key, found: Exploration) -> str:
        content = json.dumps(found.to_json(), indent=1, ensure_ascii=False).encode()
        return keep_file(content, f"{key.name}-{key.stack}.json", self.json)


def _after(key: Key, moment: ExploreMoment, last: LastExploration) -> LastExploration:
    """What is remembered once `moment` is shown."""
    kept = last.kept
    if moment.found:
        kept = (*(pair for pair in kept if pair[0] != key), (key, moment))[-KEPT:]
    return LastExploration(key, moment, kept)
