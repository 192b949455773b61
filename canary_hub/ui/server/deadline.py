"""The operator's limit for the runs of a public page: one that shows nothing new for too long is given up.

Python cannot end a thread: what was given up goes on in the background until it ends by itself. Until then the same
stack with the same components takes no other run, so that visitors cannot pile up work that hangs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ...errors import HubError
from ...hub import Hub
from ...lanes import Lane
from ...run.background import started
from ...settings import number

T = TypeVar("T")


def limited(hub: Hub, lanes: Sequence[Lane], work: Generator[T, None, None]) -> Generator[T, None, None]:
    """What `work` yields, from a thread of its own where CANARY_HUB_STEP_SECONDS is set.

    An item that equals the one before it is no news, and the time that the caller takes between two items does not
    count. Closing this closes `work` at its next item.

    Args:
        lanes: what runs; those with components of their own are suspected first when the run is given up.

    Raises: HubError when the limit is over, or as long as an earlier run that was given up is still going on.
    """
    limit = number("CANARY_HUB_STEP_SECONDS", None, example=600)
    if limit is None or os.environ.get("SPACES_ZERO_GPU"):  # ZeroGPU has a limit of its own
        yield from work
        return
    suspects = [_label(lane) for lane in lanes if lane.components] or [_label(lane) for lane in lanes]
    busy = _given_up.setdefault(hub, {})
    for label in suspects:
        if label in busy and busy[label].goes_on:
            raise HubError(f"{label} is still busy with a run that was given up.", "Choose another stack or component.")
    run = _Run(work)
    previous: object = None
    over = False
    try:
        while (item := run.next(limit)) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            if item != previous:
                run.news()
            previous = item
            shown = time.monotonic()
            yield item  # type: ignore[misc]
            run.latest_news += time.monotonic() - shown
    except Empty:
        over = True
    finally:
        run.stop()
        if over or not run.ended.wait(limit):
            busy.update(dict.fromkeys(suspects, run))
    if over:
        raise HubError(
            f"{' and '.join(suspects)} showed nothing new for {limit:g} s and was given up.",
            "Choose another component or shorter audio; CANARY_HUB_STEP_SECONDS is the limit.",
        )


def not_limited() -> None:
    """Called again and again by work whose waiting is not the run's fault, such as for a download."""
    run = _current.get()
    if run is not None:
        run.news()


class _Run:
    """A generator that a thread of its own advances, an item whenever one is asked for.

    latest_news: when there was something new, on the monotonic clock.
    """

    def __init__(self, work: Generator[object, None, None]) -> None:
        self.ended = threading.Event()
        self.latest_news = time.monotonic()
        self._work = work
        self._requests: SimpleQueue[bool] = SimpleQueue()
        self._items: SimpleQueue[object] = SimpleQueue()
        self._begun: list[Future[Any]] = []
        context = copy_context()
        context.run(_current.set, self)
        context.run(started.set, self._begun)
        threading.Thread(target=context.run, args=(self._do,), daemon=True, name="canary-hub-run").start()

    @property
    def goes_on(self) -> bool:
        """Whether its thread, or work in the background that it began, such as loading, has not ended yet."""
        return not self.ended.is_set() or not all(future.done() for future in self._begun)

    def news(self) -> None:
        """Begin to count anew."""
        self.latest_news = time.monotonic()

    def next(self, limit: float) -> object:
        """The next item, `_END` or `_Raised`. Raises: Empty when there was no news for `limit` seconds."""
        self._requests.put(True)
        while True:
            left = self.latest_news + limit - time.monotonic()
            try:
                return self._items.get(timeout=max(left, 0))
            except Empty:
                if self.latest_news + limit <= time.monotonic():
                    raise

    def stop(self) -> None:
        """Ask for no more items."""
        self._requests.put(False)

    def _do(self) -> None:
        try:
            while self._requests.get():
                self._items.put(next(self._work, _END))
        except BaseException as error:
            self._items.put(_Raised(error))
        try:
            self._work.close()
        except BaseException as error:  # nobody waits for it any more
            logging.getLogger(__name__).warning("a run could not be closed", exc_info=error)
        finally:
            self.ended.set()


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


_given_up: WeakKeyDictionary[Hub, dict[str, _Run]] = WeakKeyDictionary()
"""The run of each stack that was given up last."""
_END = object()
_current: ContextVar[_Run | None] = ContextVar("run", default=None)


def _label(lane: Lane) -> str:
    return str(Lane(lane.stack, lane.components))
