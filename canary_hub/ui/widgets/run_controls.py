"""What happens around a run on every tab: the click that asks for it, Stop, its end, and that it was not let in.

The buttons that ask for a run are off from the click until all that the run left is shown, and Stop is on meanwhile.
The browser sees to that by itself, since the server may be busy with others.

Late moments: gradio may deliver a moment of a run that was stopped after the answer to the click on Stop. So what is
shown at the end of a run is set once more after it, by the tab's `restore`, from what the run has left in a state.
Only then may the next run be asked for, or what comes late of one would take the place of the next one's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ..server.queue import MODEL, full_queue
from .events import PRIVATE, QUIET, Waiting
from .html import status
from .runs import Moment
from .templates import render

OFF, ON = (f"{{__type__: 'update', interactive: {word}}}" for word in ("false", "true"))
STOPPED = status(Moment("stopped", "Stopped."))
STOPPED_WAITING = f"(line) => line?.includes('ch-waits') ? {json.dumps(STOPPED)} : {{__type__: 'update'}}"
"""Runs in the browser at the click on Stop: a run that has not begun by then was not turned away."""


@dataclass
class RunControls:
    """Everything that asks for a run of one tab, and the button that stops it.

    buttons: what a run is asked for with. status: its line. outputs: what a moment of a run fills.
    restore: what to show after a run, from the values of `kept`. Its first argument is None after a run that began,
        else why it was not let into the queue, "" where gradio has shown that already.
    player: a run needs the clip in it.
    """

    buttons: Sequence[Any]
    stop: gr.Button
    status: gr.HTML
    outputs: list[Any]
    restore: Callable[..., Any]
    kept: list[Any]
    player: gr.Audio | None = None
    waiting: Waiting | None = None
    running: list[Any] = field(default_factory=list, init=False)

    def on(self, event: Any, work: Any, inputs: list[Any], finish: Callable[[Any], Any] | None = None) -> None:
        """Ask for a run of `work` at an event.

        finish: wires what is to follow a run before the next one may be asked for, from the event at its end.
        """
        if self.waiting:  # first: what a click starts in the browser, it starts one after the other
            self.waiting.listen(event)
        event(None, None, [self.status, *self.buttons, self.stop], js=self._starting(), **QUIET)
        run = event(
            work,
            inputs,
            self.outputs,
            trigger_mode="once",
            concurrency_id=MODEL,
            concurrency_limit=1,
            **PRIVATE,
        )
        ended = run.then(self._ended, self.kept, self.outputs, **QUIET)
        # What the queue turns away ends too, and `then` does not follow.
        self.end_after(run.failure(self._not_run, [self.status, *self.kept], self.outputs, **QUIET))
        if finish:
            self._enable_after(ended.failure)
            ended = finish(ended)
        self.end_after(ended)
        self.running.append(run)

    def listen(self) -> None:
        """Wire Stop, after all runs."""
        self.stop.click(None, [self.status], [self.status], js=STOPPED_WAITING, **QUIET)
        self.stop.click(None, None, None, cancels=self.running, **QUIET)

    def replace_at(self, event: Any, work: Any, inputs: list[Any]) -> None:
        """At an event, end the run and show something else: what it was about has changed."""
        self.end_after(event(work, inputs, self.outputs, cancels=self.running, **QUIET))

    def end_after(self, event: Any) -> None:
        """A run may be asked for again once this has ended, answered or not: gradio's `then` follows no failure."""
        self._enable_after(event.then)
        self._enable_after(event.failure)

    def restore_at(self, event: Any) -> None:
        """Show the end once more at an event, then let a run be asked for again."""
        self.end_after(event(self._ended, self.kept, self.outputs, **QUIET))

    def _enable_after(self, follows: Any) -> None:
        on = f"audio ? {ON} : {OFF}" if self.player else ON
        script = f"(audio) => [{', '.join([*[on] * len(self.buttons), OFF])}]"
        follows(None, [self.player] if self.player else None, [*self.buttons, self.stop], js=script, **QUIET)

    def _starting(self) -> str:
        """JavaScript for the click: others may be before this visitor in the queue, so the status line says so."""
        return f"() => [{', '.join([json.dumps(render('waits.html')), *[OFF] * len(self.buttons), ON])}]"

    def _ended(self, *kept: Any) -> Any:
        return self.restore(None, *kept)

    def _not_run(self, request: gr.Request, line: str | None, *kept: Any) -> Any:
        """A run that had begun and was stopped is a failure to gradio, too; its status line does not wait any more."""
        begun = "ch-waits" not in (line or "")
        return self.restore(None if begun else full_queue(request) or "", *kept)
