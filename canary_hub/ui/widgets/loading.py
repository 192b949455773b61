"""Loading a stack while the page says what is happening: checking, downloading, loading."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import TimeoutError as NotYet
from typing import TypeVar

from ...errors import HubError
from ...hub import Hub
from ...lanes import Lane
from ...pipeline import Stack
from ...run.background import in_background
from ...specs import StackSpec, WeightsRef
from ...weights.checkpoint import downloaded_bytes
from ..server.deadline import not_limited

T = TypeVar("T")

LOOK_EVERY = 0.5
"""Seconds between two looks at a download."""


def load(hub: Hub, stack: StackSpec | Lane, show: Callable[[str], T]) -> Generator[T, None, Stack]:
    """Yield what is happening, in words that `show` makes something of; return the stack.

    A caller that gives up does not stop a download: what has arrived is kept, and the stack is released
    as soon as it is loaded.

    Raises: HubError.
    """
    assembly = hub.assemble(stack)
    spec, missing = assembly.spec, assembly.missing
    assembly.fit.require(spec.name)
    work = in_background(lambda: hub.load(assembly))
    wait = 0.2  # a stack that is loaded already needs no message
    while True:
        try:
            return work.result(timeout=wait)
        except NotYet:
            wait = LOOK_EVERY
            yield show(download_progress(missing) or f"Loading {spec.title or spec.name}")


def download_progress(missing: Sequence[WeightsRef]) -> str:
    """ "Downloading owner/model: 1.2 of 4.8 GB" for what has not wholly arrived, else ""."""
    for ref in missing:
        here = downloaded_bytes(ref) / 2**30
        if ref.gib is None:  # nobody knows when it has wholly arrived
            not_limited()
        elif here < ref.gib * 0.995:
            not_limited()
            if not here:
                return f"Asking the Hugging Face Hub for {ref.repo}"
            return f"Downloading {ref.repo}: {here:.1f} of {ref.gib:.1f} GB"
    return ""


def memory(stack: Stack) -> int:
    """Bytes that the stack's components take."""
    parts = {id(entry): entry.nbytes for entry in stack.entries.values()}
    return sum(parts.values())


def warm_up(hub: Hub, spec: StackSpec) -> None:
    """Start loading a stack whose weights are here, so that the first visitor need not wait for it."""

    def work() -> None:
        try:
            assembly = hub.assemble(spec)
            if not assembly.fit.problems and not assembly.missing:
                hub.load(assembly).close()
        except HubError as error:
            logging.getLogger(__name__).warning("%s could not be loaded yet: %s", spec.name, error)

    in_background(work)
