"""What a component does wrong, named as its own fault: it raises, returns what nobody can use, or writes in a loop."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from math import isnan
from typing import TYPE_CHECKING, Any

from ..errors import HubError, PluginError, is_out_of_memory

if TYPE_CHECKING:
    import torch

    from ..stages import Step

REPEATED = "stopped: the text repeated itself; the repetition was removed"
"""The note of a text that ended in a loop."""
MAX_PERIOD = 48
MIN_TOKENS = 36
MIN_REPEATS = 6

LONGEST = 300
"""Characters of a foreign error's text that are shown."""
_BROKEN = "Its weights are damaged, or its code is wrong: choose another component or checkpoint."


@contextmanager
def blamed(id: str, doing: str) -> Iterator[None]:
    """Name the component `id`, `doing` something, as the cause of what is raised within.

    Raises: PluginError; a HubError, and what is raised for lack of memory, as they are.
    """
    try:
        yield
    except HubError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        text = " ".join(str(error).split())[:LONGEST]
        raise PluginError(
            f"{id} failed while {doing}: {type(error).__name__}{': ' if text else ''}{text}.",
            "Choose another component; CANARY_HUB_DEBUG=1 shows where it failed.",
        ) from error


def writing(id: str, begin: Callable[[], Iterator[Step]]) -> Generator[Step, None, None]:
    """The steps that the LLM backend `id` writes; closing this closes the backend's own iterator, too.

    Raises: PluginError, see `blamed`.
    """
    with blamed(id, "writing"):
        yield from begin()


def check_output(id: str, output: Any, rows: int, axis: int, dim: int | None) -> None:
    """What a preprocessor, encoder or projector returned: three axes, lengths within them, and real numbers.

    Args:
        rows: how many there must be. axis: the one that the lengths count. dim: size of the other one, where
            the component's contract states it.

    Raises: PluginError.
    """
    import torch

    hint = "Choose another component: this one breaks its contract."
    if not (isinstance(output, tuple) and len(output) == 2 and all(isinstance(item, torch.Tensor) for item in output)):
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
