"""Limits of a public page that gradio's queue keeps; those of a file are `audio.Limits`."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..errors import OptionError


@dataclass(frozen=True)
class QueueLimits:
    """waiting: how many runs may wait in all. per_visitor: how many of them may be one visitor's, the one that
    is computed included; None for as many as there is room for."""

    waiting: int = 64
    per_visitor: int | None = None

    @classmethod
    def from_env(cls) -> QueueLimits:
        """Read CANARY_HUB_QUEUE and CANARY_HUB_PER_VISITOR. Raises: OptionError."""
        return cls(_count("CANARY_HUB_QUEUE") or cls.waiting, _count("CANARY_HUB_PER_VISITOR"))


def queued(demo: gr.Blocks, limits: QueueLimits) -> gr.Blocks:
    """`demo` with its queue set up.

    gradio limits only the whole queue. One visitor's share is looked at where a run enters it, in
    `gradio.queueing.Queue.push`, which every face (page, client, curl) goes through; its refusals are shown
    as they are.
    """
    demo = demo.queue(max_size=limits.waiting)
    if limits.per_visitor is None:
        return demo
    most = limits.per_visitor
    queue: Any = demo._queue
    push, entering = queue.push, asyncio.Lock()

    async def push_if_few(body: Any, request: Any, username: str | None) -> tuple[bool, Any, str]:
        async with entering:
            waiting = [event for one in queue.event_queue_per_concurrency_id.values() for event in one.queue]
            running = [event for job in queue.active_jobs for event in job or ()]
            who = visitor(request)
            theirs = sum(visitor(event.request) == who for event in (*waiting, *running) if event.alive)
            if theirs >= most:
                runs = "1 run" if most == 1 else f"{most} runs"
                return False, f"You have {runs} waiting or in work already. Wait for one, or stop one.", "error"
            entered: tuple[bool, Any, str] = await push(body=body, request=request, username=username)
            return entered

    queue.push = push_if_few
    return demo


def visitor(request: Any) -> str:
    """Where a request comes from. On a Space that is what Hugging Face's proxy says, the only way in."""
    forwarded = request.headers.get("x-forwarded-for", "") if os.environ.get("SPACE_ID") else ""
    return forwarded.split(",")[0].strip() or (request.client.host if request.client else "")


def _count(variable: str) -> int | None:
    text = os.environ.get(variable, "").strip()
    if text and not (text.isdecimal() and int(text)):
        raise OptionError(f"{variable} is {text!r}, no positive whole number.", "Unset it, or set it to 20.")
    return int(text) if text else None
