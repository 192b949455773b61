"""Limits of a public page that gradio's queue keeps, and its order; limits of a file are `audio.Limits`."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ...settings import number
from .gradio_inside import Answer, GoIn, events, guard_queue, mean_seconds, queue_of, reorder
from .visitor import visitor

MODEL = "model"
"""Concurrency id of everything that computes with a model: one run at a time, the others wait in the queue."""

RETRY_SECONDS = 10
"""When a visitor who was kept out may try again, as long as no run has ended to judge by."""


@dataclass(frozen=True)
class QueueLimits:
    """waiting: how many runs may wait in all. per_visitor: how many that need a model may be one visitor's,
    the one in work included; None for as many as there is room for."""

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
    run enters it, which every face (page, client, curl) does; refusals are shown as they are.
    """
    demo = demo.queue(max_size=limits.waiting, api_open=False)  # open, POST /gradio_api/run goes past the queue
    queue, entering = queue_of(demo), asyncio.Lock()

    async def enter(go_in: GoIn, line: Any, request: Any) -> Answer:
        async with entering:
            most = limits.per_visitor if line == MODEL else None
            if most is not None and _model_runs(queue, visitor(request)) >= most:
                runs = "1 run" if most == 1 else f"{most} runs"
                return False, f"You have {runs} waiting or in work already. Wait for one, or stop one.", "error"
            if (busy := full(queue)) is not None:
                return False, busy, "queue_full"
            answer = await go_in()
            if answer[0]:
                reorder(queue, _take_turns)
            return answer

    guard_queue(demo, enter)
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


def full_queue(request: gr.Request) -> str | None:
    """What to say after the queue of the request's page took no run: that it is full, if that is why."""
    return full(queue_of(request.request.app.get_blocks())) if request.request else None


def retry_seconds(queue: Any) -> int:
    """Whole seconds until a place in the queue is likely to be free: as long as a run takes, at most a minute."""
    mean = mean_seconds(queue)
    return RETRY_SECONDS if mean is None else min(60, max(1, math.ceil(mean)))


def _model_runs(queue: Any, who: str) -> int:
    """How many runs that need a model one visitor has waiting or in work; to look at what is known costs nothing."""
    return sum(event.concurrency_id == MODEL and visitor(event.request) == who for event in events(queue))


def _take_turns(line: list[Any]) -> None:
    """Put a line in an order in which one visitor's many runs do not hold up another's one.

    Everybody's first run, in the order in which they came, then everybody's second, and so on. Several sessions of
    one address (an office, a proxy) take turns in the same way within the turns of that address.
    """
    line.sort(key=_turn(line, lambda event: event.session_hash))
    line.sort(key=_turn(line, lambda event: visitor(event.request)))


def _turn(line: list[Any], owner_of: Callable[[Any], Hashable]) -> Callable[[Any], int]:
    """A key for sorting: 0 for somebody's first event, 1 for the second."""
    seen: Counter[Hashable] = Counter()
    turns: dict[int, int] = {}
    for event in line:
        owner = owner_of(event)
        turns[id(event)] = seen[owner]
        seen[owner] += 1
    return lambda event: turns[id(event)]
