"""How events are wired, and what a visitor sees whose run waits for others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ..server.gradio_inside import queue_of, runs_before
from .html import note

LOOK_EVERY = 2.0
"""Seconds between two looks."""
LOOK = "() => ({__type__: 'update', active: true})"
"""Runs in the browser alone, at the click that asks for a run."""
WAITS = "() => !!document.querySelector('.ch-waits')"
"""Runs in the browser before a look: whether a run has not begun. It may be on its way to the queue yet."""
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""How the page's own events are wired: nothing in the API, no spinner over what they change."""
QUIET: dict[str, Any] = {**PRIVATE, "queue": False}
"""For what needs no model."""
PICKED: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
"""For a pick: another may come while the first is on its way."""


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
    return note(f"Busy: {runs} before yours.", announced=True) if before else ""
