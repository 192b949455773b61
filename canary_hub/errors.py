"""Errors that a user can act on: what happened, on what input, and what to do next.

Every error this package raises on purpose is a `HubError`. The CLI and the page show its
message alone; `CANARY_HUB_DEBUG=1` shows the traceback to a developer.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class HubError(Exception):
    """Base of all errors raised on purpose; its message is meant for a user.

    `hint` says what to do next. It is kept apart so that a face can set it on a line of its own.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class AudioError(HubError):
    """An audio input cannot be read, or lies outside the limits."""


class WeightsError(HubError):
    """A checkpoint cannot be found, fetched or read, or its tensors are not the ones expected."""


class ContractError(HubError):
    """The components of a stack do not fit together; carries every problem at once."""


class OptionError(HubError):
    """A build or call option is unknown or has an unusable value."""


class PluginError(HubError):
    """A plugin cannot be loaded, or what its hooks return cannot be accepted."""


class UnknownNameError(HubError):
    """A component, stack or stage is asked for by a name that nothing has."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that there was not enough memory, of the machine or of a device.

    torch raises torch.OutOfMemoryError on a GPU, and on the CPU a bare RuntimeError ("[enforce fail at
    alloc_cpu.cpp] ... DefaultCPUAllocator: can't allocate memory").
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    short = ("can't allocate memory", "cannot allocate memory", "out of memory")
    return isinstance(error, (RuntimeError, OSError)) and any(words in text for words in short)


@contextmanager
def memory_for(work: str, hint: str) -> Iterator[None]:
    """Say in one sentence that there is not enough memory to do `work`, such as "load nano".

    Raises: HubError instead of what is raised for lack of memory; everything else as it is.
    """
    try:
        yield
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors that took the memory
    raise HubError(f"There is not enough memory to {work}.", hint)


def explain(error: Exception) -> tuple[str, str]:
    """An error as a message and a hint that a visitor can use; what is not expected goes to the log."""
    if isinstance(error, HubError):
        if isinstance(error, PluginError) and error.__cause__ is not None:  # for the plugin's author
            logging.getLogger(__name__).error(error.message, exc_info=error.__cause__)
        return error.message, error.hint
    logging.getLogger(__name__).error("a run failed", exc_info=error)
    if is_out_of_memory(error):
        return "There is not enough memory for this.", "Choose a smaller stack, or a shorter file."
    return (
        f"Something inside went wrong ({type(error).__name__}).",
        "Try again or choose other components; the log of this server says more.",
    )
