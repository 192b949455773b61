"""Noticing that a language model has fallen into a loop."""

from __future__ import annotations

from collections.abc import Sequence

MAX_PERIOD = 48
MIN_TOKENS = 36
MIN_REPEATS = 6


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
