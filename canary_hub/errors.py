"""Errors that a user can act on: what happened, on what input, and what to do next.

Every error this package raises on purpose is a `HubError`. The CLI and the page show its
message alone; `CANARY_HUB_DEBUG=1` shows the traceback to a developer.
"""

from __future__ import annotations


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
