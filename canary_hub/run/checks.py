"""What a component does wrong, told as its own fault: it raises, returns what nobody can use, or never answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from math import isnan
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..errors import HubError, PluginError, is_out_of_memory
from ..settings import number

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")

MAX_PERIOD = 48
MIN_TOKENS = 36
MIN_REPEATS = 6

LONGEST = 300
"""Characters of a foreign error's text that are told."""
_END = object()
_BROKEN = "Its weights are damaged, or its code is wrong: choose another component or checkpoint."


@contextmanager
def blamed(id: str, doing: str) -> Iterator[None]:
    """Tell what is raised within as the fault of the component `id`, `doing` something.

    Raises: PluginError; a HubError, and what is raised for lack of memory, as they are.
    """
    try:
        yield
    except HubError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:LONGEST]
        raise PluginError(
            f"{id} failed while {doing}: {type(error).__name__}{': ' if said else ''}{said}.",
            "Choose another component; CANARY_HUB_DEBUG=1 shows where it failed.",
        ) from error


def check_output(id: str, output: Any, rows: int, axis: int, dim: int | None) -> None:
    """What a preprocessor, encoder or projector returned: three axes, lengths within them, and real numbers.

    Args:
        rows: how many there must be. axis: the one that the lengths count. dim: size of the other one, where
            the component's contract states it.

    Raises: PluginError.
    """
    import torch

    hint = "Choose another component: this one breaks its contract."
    if not (isinstance(output, tuple) and len(output) == 2 and all(isinstance(one, torch.Tensor) for one in output)):
        raise PluginError(f"{id} returned no pair of tensors (values, lengths).", hint)
    values, lengths = output
    shape = list(values.shape)
    if values.dim() != 3 or len(values) != rows or dim not in (None, shape[3 - axis]):
        wanted = [rows, dim or "...", "..."] if axis == 2 else [rows, "...", dim or "..."]
        raise PluginError(f"{id} returned shape {shape} instead of [{', '.join(map(str, wanted))}].", hint)
    if not values.is_floating_point() or lengths.is_floating_point():
        raise PluginError(f"{id} returned {values.dtype} with lengths in {lengths.dtype}.", hint)
    counts = lengths.tolist() if lengths.dim() == 1 else []
    if len(counts) != rows or not all(0 <= count <= shape[axis] for count in counts):
        raise PluginError(f"{id} returned lengths {lengths.tolist()} for shape {shape}.", hint)
    if not torch.isfinite(values).all() and not _finite(values, counts, axis):  # what lies past a length is free
        raise PluginError(f"{id} returned values that are not numbers (NaN or infinite).", _BROKEN)


def check_step(id: str, step: Any, rows: int) -> None:
    """What an LLM backend wrote: one id and log probability per row, none of them NaN. Raises: PluginError."""
    hint = "Choose another component: this one breaks its contract."
    ids, logprobs = getattr(step, "ids", ()), getattr(step, "logprobs", ())
    if len(ids) != rows or len(logprobs) != rows:
        raise PluginError(f"{id} returned a step of {len(ids)} ids for {rows} rows.", hint)
    if any(token is not None and isnan(logprob) for token, logprob in zip(ids, logprobs, strict=True)):
        raise PluginError(f"{id} returned probabilities that are not numbers (NaN).", _BROKEN)


def _finite(values: torch.Tensor, counts: list[int], axis: int) -> bool:
    return all(bool(row.narrow(axis - 1, 0, n).isfinite().all()) for row, n in zip(values, counts, strict=True))


def loop_start(ids: Sequence[int]) -> int | None:
    """The index after the first round of a loop at the end of `ids`, or None.

    A loop is the same 1 to 48 tokens over and over: at least 6 times and for at least 36 tokens, so
    that a spoken "seven seven seven seven" is none.
    """
    for period in range(1, min(MAX_PERIOD, len(ids) // MIN_REPEATS) + 1):
        needed = max(MIN_TOKENS, MIN_REPEATS * period)
        if len(ids) < needed or ids[-1] != ids[-1 - period]:
            continue
        at = len(ids) - period - 1
        while at >= 0 and ids[at] == ids[at + period]:
            at -= 1
        start = at + 1
        if len(ids) - start >= needed:
            return start + period
    return None


class Patience:
    """How long a component may take for one piece of work; what takes longer is given up.

    seconds: None for ever. Python cannot end a thread: work that was given up goes on in the background until it
        ends by itself, and until then its component takes no other.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self.late: dict[str, Future[Any]] = {}
        """Component id -> the work that was given up last."""

    @classmethod
    def from_env(cls) -> Patience:
        """As CANARY_HUB_STEP_SECONDS says. Raises: OptionError for what is no positive number."""
        return cls(number("CANARY_HUB_STEP_SECONDS", None, example=600))


class Worker:
    """Does pieces of work one after the other: at once, or where patience has an end in a thread of its own."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._work: SimpleQueue[Callable[[], None] | None] | None = None

    def do(self, id: str, doing: str, work: Callable[[], Value]) -> Value:
        """The result of `work`, which the component `id` does. Raises: PluginError, see `blamed` and `Patience`."""
        with blamed(id, doing):
            return self.wait(id, doing, work)

    def wait(self, id: str, doing: str, work: Callable[[], Value]) -> Value:
        """The same with what `work` raises as it is."""
        seconds = self._patience.seconds
        if seconds is None:
            return work()
        late = self._patience.late.get(id)
        if late is not None and not late.done():
            raise PluginError(f"{id} is still busy with a run that was given up.", "Choose another component.")
        result: Future[Value] = Future()
        self._queue().put(partial(copy_context().run, _settle, result, work))
        wait([result], seconds)
        if result.done():
            return result.result()
        self._patience.late[id] = result
        self.close()
        raise PluginError(
            f"{id} has not ended {doing} within {seconds:g} s and was given up.",
            "Choose another component or shorter audio; CANARY_HUB_STEP_SECONDS is the limit.",
        )

    def steps(self, id: str, doing: str, begin: Callable[[], Iterator[Value]]) -> Generator[Value, None, None]:
        """The items of an iterator, each a piece of work; closing it closes the iterator."""
        items = self.do(id, doing, begin)
        following = partial(next, items, cast(Value, _END))
        try:
            while (item := self.do(id, doing, following)) is not _END:
                yield item
        finally:
            close = getattr(items, "close", None)
            if close is not None and self._patience.late.get(id, _DONE).done():
                self.do(id, doing, close)

    def close(self) -> None:
        """End the thread, once it has done what it was given."""
        if self._work is not None:
            self._work.put(None)
            self._work = None

    def _queue(self) -> SimpleQueue[Callable[[], None] | None]:
        if self._work is None:
            self._work = SimpleQueue()
            Thread(target=_do_all, args=(self._work,), daemon=True, name="canary-hub-work").start()
        return self._work


_DONE: Future[Any] = Future()
_DONE.set_result(None)


def _do_all(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (work := queue.get()) is not None:
        work()


def _settle(result: Future[Value], work: Callable[[], Value]) -> None:
    try:
        result.set_result(work())
    except BaseException as error:
        result.set_exception(error)
