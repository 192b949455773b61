"""ZeroGPU: a Space without a GPU of its own, which gets one for some seconds at a time.

PyPI's `spaces` pretends that CUDA is there while the page starts, packs what was moved to it, and runs a function
marked `spaces.GPU` in a forked process with a real GPU. So models are loaded before the page is launched, in the
main thread (the pretence is a torch mode, which threads do not inherit), and what goes in and out is pickled.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from ...errors import HubError
from ...hub import Hub
from ...specs import StackSpec

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[Concatenate[Hub, P], Generator[T, None, None]]

START_SECONDS = 15
"""For the fork and moving 5 GB of weights to the GPU."""

_hubs: WeakValueDictionary[int, Hub] = WeakValueDictionary()
"""A hub cannot be pickled, but a forked process has it too: it is named there by its id."""


def on_zerogpu() -> bool:
    """Whether this is a ZeroGPU Space."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def begin() -> None:
    """On ZeroGPU, import `spaces`: before torch looks for CUDA, or it refuses."""
    if on_zerogpu():
        importlib.import_module("spaces")


def gpu(seconds: Callable[P, float]) -> Callable[[Work[P, T]], Work[P, T]]:
    """Decorate a generator function that computes: on a ZeroGPU Space it gets a GPU, elsewhere it stays as it is.

    Its first argument is the hub; all others, and all that it yields, must pickle. Errors come out as they are
    raised within it; what `spaces` itself refuses comes out as a HubError.

    Args:
        seconds: how long it may take on the GPU beside its start, from its arguments without the hub. It counts
            against the visitor's daily minutes, and what takes longer is stopped.
    """

    def decorate(work: Work[P, T]) -> Work[P, T]:
        if not on_zerogpu():
            return work
        import gradio as gr

        spaces = importlib.import_module("spaces")  # PyPI's; a checkout's folder of that name confuses type checkers

        def duration(hub: int, *args: P.args, **kwargs: P.kwargs) -> int:
            return START_SECONDS + math.ceil(seconds(*args, **kwargs))

        def there(hub: int, *args: P.args, **kwargs: P.kwargs) -> Generator[T | _Raised, None, None]:
            try:
                with closing(work(_hubs[hub], *args, **kwargs)) as values:
                    yield from values
            except HubError as error:
                yield _Raised(error)
            except Exception as error:  # may not pickle, and `spaces` would pass on its class alone
                logging.getLogger(__name__).error("a run failed on the GPU", exc_info=error)
                yield _Raised(RuntimeError(f"{type(error).__name__}: {error}"))

        decorated = spaces.GPU(there, duration=duration)

        def here(hub: Hub, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
            _hubs[id(hub)] = hub
            try:
                with closing(decorated(id(hub), *args, **kwargs)) as values:
                    for value in values:
                        if isinstance(value, _Raised):
                            raise value.error
                        yield value
            except gr.Error as error:
                raise HubError(*refusal(getattr(error, "title", ""), str(error.message))) from error

        return here

    return decorate


@dataclass(frozen=True)
class _Raised:
    """An error on its way out of the process with the GPU."""

    error: Exception


def refusal(title: str, message: str) -> tuple[str, str]:
    """What `spaces` (0.51: zero/client.py, zero/wrappers.py) says, as a message and a hint for a visitor."""
    text = f"{title}: {message}".lower()
    if "no gpu was available" in text:
        return "All GPUs are in use at the moment.", "Try again in a minute or two."
    if "pending credits" in text:
        return "Too many of your runs are in work already.", "Try again when one of them has ended."
    if "gpu limit" in text:
        return "This Space has used up its GPU time for now.", "Try again later, or duplicate the Space."
    if "quota" in text:
        when = message.partition("Try again in ")[2].split(". ")[0].strip(" .")
        more = f"There is more in {when}. " if when else ""
        return "Your GPU time for today is used up.", f"{more}Sign in to Hugging Face, or use a shorter file."
    if "illegal duration" in text:
        return "This would take longer than one run may have the GPU.", "Use a shorter file."
    if "aborted" in text:
        return "The GPU's time for this run was up before its end.", "Use a shorter file, or fewer details."
    if "proxy token" in text:
        return "Your visit has expired.", "Load the page again."
    return "The GPU could not be had.", "Try again in a minute; the log of this Space says more."


def load_all(hub: Hub, first: StackSpec) -> None:
    """Load the stack `first`, downloading it if need be, and all others whose weights are here, in this thread."""
    for spec in (first, *hub.registry.stacks.values()):
        try:
            assembly = hub.assemble(spec)
            if spec is first or not (assembly.fit.problems or assembly.missing):
                hub.load(assembly).close()
        except HubError as error:
            logging.getLogger(__name__).warning("%s could not be loaded: %s", spec.name, error)
