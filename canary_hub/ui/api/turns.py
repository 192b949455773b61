"""Runs for a face that is no gradio event (the OpenAI endpoint): each waits its turn in gradio's queue.

So there is one queue for everything that computes, with its limits, and on ZeroGPU the run belongs to the
visitor who asked.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from uuid import uuid4

import gradio as gr
from starlette.requests import Request

from ...hub import Hub
from ...lanes import Lane
from ..server.gradio_inside import forget_session, push_private, queue_of, runs_before
from ..server.queue import MODEL, full, retry_seconds
from ..widgets.runs import Moment, transcribe

LOOK_EVERY = 0.2
"""Seconds between two looks whether the client is still there."""
WAIT_SECONDS = 300.0
"""How long a run may wait for its turn."""


class Busy(Exception):
    """A run was not let into the queue, or has waited too long.

    whole: whether everybody is kept out, not only the visitor who has enough runs already.
    retry_seconds: when to try again.
    """

    def __init__(self, message: str, whole: bool, retry_seconds: int) -> None:
        super().__init__(message)
        self.whole = whole
        self.retry_seconds = retry_seconds


class Gone(Exception):
    """Nobody waits for the answer any more."""


@dataclass
class _Run:
    """A run between the event loop that answers and the thread that computes."""

    lane: Lane
    audio: str
    details: bool
    loop: asyncio.AbstractEventLoop
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    moment: Moment | None = None
    ended: bool = False

    def show(self, moment: Moment | None, ended: bool = False) -> None:
        """Hand the latest moment over; every moment is complete in itself, so none has to be kept."""
        self.moment, self.ended = moment, ended
        with suppress(RuntimeError):  # the server has stopped
            self.loop.call_soon_threadsafe(self.changed.set)


class Turns:
    """The runs that wait, by an unguessable key, and the gradio event that computes one of them."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._runs: dict[str, _Run] = {}
        key = gr.Textbox(visible=False)
        gr.on([], self._compute, [key], None, api_visibility="private", concurrency_id=MODEL, concurrency_limit=1)

    @classmethod
    def of(cls, demo: gr.Blocks) -> Turns:
        """Those of a page."""
        owners = (getattr(event.fn, "__self__", None) for event in demo.fns.values())
        return next(owner for owner in owners if isinstance(owner, cls))

    @staticmethod
    def check_room(demo: gr.Blocks) -> None:
        """Refuse early, before a file is uploaded for nothing. Raises: Busy."""
        queue = queue_of(demo)
        if (busy := full(queue)) is not None:
            raise Busy(busy, True, retry_seconds(queue))

    def _compute(self, key: str) -> None:
        run = self._runs.get(key)
        if run is None or run.stop.is_set():
            return
        try:
            with closing(transcribe(self.hub, run.lane, run.audio, run.details)) as moments:
                for moment in moments:
                    if run.stop.is_set():
                        return
                    run.show(moment)
        finally:
            run.show(run.moment, ended=True)

    async def moments(
        self, request: Request, lane: Lane, audio: str, details: bool = False
    ) -> AsyncGenerator[Moment, None]:
        """Wait for a turn, then run; the last moment is done or failed. Closing it stops the run within a token.

        Raises: Busy; Gone when the client has hung up.
        """
        demo = request.app.get_blocks()
        queue, key = queue_of(demo), uuid4().hex
        run = self._runs[key] = _Run(lane, audio, details, asyncio.get_running_loop())
        try:
            entered, reason, state = await push_private(demo, self, key, request)
            if not entered:
                raise Busy(str(reason), state == "queue_full", retry_seconds(queue))
            until = time.monotonic() + WAIT_SECONDS
            seen: Moment | None = None
            while True:
                run.changed.clear()
                ended = run.ended  # before the moment: the last one is there when this is set
                moment = run.moment
                if await request.is_disconnected():
                    raise Gone
                if moment is not None and moment is not seen:
                    seen = moment
                    yield moment
                elif ended:
                    return
                elif seen is None and time.monotonic() > until:
                    before = runs_before(queue, key) or 0
                    message = f"Busy: there was no turn within {WAIT_SECONDS:g} s; this was number {before + 1}."
                    raise Busy(f"{message} Try again later.", True, retry_seconds(queue))
                else:
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(run.changed.wait(), LOOK_EVERY)
        finally:
            run.stop.set()
            del self._runs[key]
            await forget_session(demo, key)
