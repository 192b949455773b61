"""Work that may take long, such as a download, in a thread that does not keep the program alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, TypeVar

Value = TypeVar("Value")

started: ContextVar[list[Future[Any]] | None] = ContextVar("started", default=None)
"""Where a caller wants to know what is still going on: takes all that is begun in its context."""


def in_background(work: Callable[[], Value]) -> Future[Value]:
    """Begin `work`; the future holds what it returns or raises."""
    future: Future[Value] = Future()
    futures = started.get()
    if futures is not None:
        futures.append(future)

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="canary-hub-background").start()
    return future
