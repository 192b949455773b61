"""Limits of a public page that gradio's queue keeps, and its order; limits of a file are `audio.Limits`."""

from __future__ import annotations

import asyncio
import math
import os
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ...settings import number

RETRY_SECONDS = 10
"""When a visitor who was kept out may try again, as long as no run has ended by which that could be told."""


@dataclass(frozen=True)
class QueueLimits:
    """waiting: how many runs may wait in all. per_visitor: how many of them may be one visitor's, the one that
    is computed included; None for as many as there is room for."""

    waiting: int = 64
    per_visitor: int | None = None

    @classmethod
    def from_env(cls) -> QueueLimits:
        """Read CANARY_HUB_QUEUE and CANARY_HUB_PER_VISITOR. Raises: OptionError."""
        per_visitor = number("CANARY_HUB_PER_VISITOR", None, integer=True, example=2)
        return cls(
            int(number("CANARY_HUB_QUEUE", cls.waiting, integer=True)),
            None if per_visitor is None else int(per_visitor),
        )


def queued(demo: gr.Blocks, limits: QueueLimits) -> gr.Blocks:
    """`demo` with its queue set up: how long it may get, one visitor's share of it, and fair turns.

    gradio's queue is first come, first served, and knows a limit of the whole only. So both are seen to where a
    run enters it, in `gradio.queueing.Queue.push` (6.31), which every face (page, client, curl) goes through; its
    refusals are shown as they are.
    """
    demo = demo.queue(max_size=limits.waiting, api_open=False)  # open, POST /gradio_api/run goes past the queue
    queue: Any = demo._queue
    push, entering = queue.push, asyncio.Lock()

    async def push_in_turn(body: Any, request: Any, username: str | None) -> tuple[bool, Any, str]:
        async with entering:
            if limits.per_visitor is not None and _runs_of(queue, visitor(request)) >= limits.per_visitor:
                runs = "1 run" if limits.per_visitor == 1 else f"{limits.per_visitor} runs"
                return False, f"You have {runs} waiting or in work already. Wait for one, or stop one.", "error"
            if (busy := full(queue)) is not None:
                return False, busy, "queue_full"
            entered: tuple[bool, Any, str] = await push(body=body, request=request, username=username)
            if entered[0]:
                _take_turns(queue)
            return entered

    queue.push = push_in_turn
    return demo


def full(queue: Any) -> str | None:
    """What to say to a run for which the queue has no place; None where it has one."""
    if queue.max_size is None or len(queue) < queue.max_size:
        return None
    seconds = retry_seconds(queue)
    return (
        f"Busy: the queue is full, this would be number {len(queue) + 1} in it. "
        f"Try again in {seconds} second{'s'[: seconds > 1]}."
    )


def turned_away(request: gr.Request) -> str | None:
    """What to say after the queue of the request's page took no run: that it is full, if that is why."""
    return full(request.request.app.get_blocks()._queue) if request.request else None


def retry_seconds(queue: Any) -> int:
    """Whole seconds until a place in the queue is likely to be free: as long as a run takes, at most a minute."""
    times = queue.process_time_per_fn.values()
    count = sum(one.count for one in times)
    return min(60, max(1, math.ceil(sum(one.process_time for one in times) / count))) if count else RETRY_SECONDS


def runs_before(queue: Any, session: str) -> int | None:
    """How many runs come before a session's next one, that in work included; None when none of it waits."""
    for line in queue.event_queue_per_concurrency_id.values():
        for before, event in enumerate(line.queue):
            if event.session_hash == session:
                return before + int(line.current_concurrency)
    return None


def visitor(request: Any) -> str:
    """Where a request comes from. On a Space that is what Hugging Face's proxy says, the only way in."""
    forwarded = request.headers.get("x-forwarded-for", "") if os.environ.get("SPACE_ID") else ""
    return forwarded.split(",")[0].strip() or (request.client.host if request.client else "")


def _runs_of(queue: Any, who: str) -> int:
    waiting = [event for line in queue.event_queue_per_concurrency_id.values() for event in line.queue]
    running = [event for job in queue.active_jobs for event in job or ()]
    return sum(visitor(event.request) == who for event in (*waiting, *running) if event.alive)


def _take_turns(queue: Any) -> None:
    """Put every line in an order in which one visitor's many runs do not hold up another's one.

    Everybody's first run, in the order in which they came, then everybody's second, and so on. Several sessions of
    one address (an office, a proxy) take turns in the same way within the turns of that address.
    """
    for line in queue.event_queue_per_concurrency_id.values():
        before = list(line.queue)
        line.queue.sort(key=_turn(line.queue, lambda event: event.session_hash))
        line.queue.sort(key=_turn(line.queue, lambda event: visitor(event.request)))
        if line.queue != before:
            queue.broadcast_estimations(line.concurrency_id)


def _turn(events: list[Any], whose: Callable[[Any], Hashable]) -> Callable[[Any], int]:
    """A key for sorting: 0 for somebody's first event, 1 for the second."""
    seen: Counter[Hashable] = Counter()
    turns: dict[int, int] = {}
    for event in events:
        owner = whose(event)
        turns[id(event)] = seen[owner]
        seen[owner] += 1
    return lambda event: turns[id(event)]
