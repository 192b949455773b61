"""What a visitor sees whose run waits for others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from ..server.gradio_inside import queue_of, runs_before
from .quiet import QUIET

LOOK_EVERY = 2.0
"""Seconds between two looks."""
LOOK = "() => ({__type__: 'update', active: true})"
"""Runs in the browser alone, at the click that asks for a run."""
WAITS = "() => !!document.querySelector('.ch-waits')"
"""Runs in the browser before a look: whether a run has not begun. It may be on its way to the queue yet."""
OFF, ON = (f"{{__type__: 'update', interactive: {word}}}" for word in ("false", "true"))


def starting(buttons: int = 1) -> str:
    """JavaScript for the click that asks for a run, since others may be before this visitor in the queue.

    It fills a status line, switches off so many buttons, and switches on the one to stop with.
    """
    line = '<div class="ch-status ch-busy ch-waits" role="status"><strong>Waiting for its turn</strong></div>'
    return f"() => [{', '.join([json.dumps(line), *[OFF] * buttons, ON])}]"


def ending(buttons: int = 1) -> str:
    """JavaScript for when all that a run left is shown: switches so many buttons on, and the one to stop with off.

    Not earlier: what comes late of one run would take the place of the next one's.
    """
    return f"() => [{', '.join([*[ON] * buttons, OFF])}]"


ENDING_WITH_AUDIO = f"(audio) => [audio ? {ON} : {OFF}, {OFF}]"
"""The same for a button that needs a clip; its input is the player."""


def after(*events: Any) -> list[Any]:
    """What to listen to for the end of any of these, answered or not: gradio's `then` follows no failure."""
    return [follows for event in events for follows in (event.then, event.failure)]


class Waiting:
    """A line that tells how many runs come before a visitor's own, while there are any."""

    def __init__(self, demo: gr.Blocks) -> None:
        self.demo = demo
        self.line = gr.HTML("", elem_id="waiting", visible=False)
        waits = gr.Checkbox(visible=False)
        self.timer = gr.Timer(LOOK_EVERY, active=False)
        self.timer.tick(
            self._look,
            [waits],
            [self.line, self.timer],
            js=WAITS,
            **QUIET,
        )

    def listen(self, *starts: Callable[..., object]) -> None:
        """Look from each of these events on."""
        for start in starts:
            start(None, None, [self.timer], js=LOOK, **QUIET)

    def _look(self, waits: bool, request: gr.Request) -> tuple[object, object]:
        before = runs_before(queue_of(self.demo), request.session_hash or "")
        return gr.update(value=words(before), visible=bool(before)), gr.Timer(active=waits or before is not None)


def words(before: int | None) -> str:
    """The line as HTML; "" for nobody before."""
    runs = "1 run comes" if before == 1 else f"{before} runs come"
    return f'<p class="ch-note" role="status">Busy: {runs} before yours.</p>' if before else ""
