"""What several runs have in common, computed once: for stacks side by side on the same audio."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any


class StageCache:
    """Outputs of stages by what made them; give one to every `Stack.run` that is compared.

    It holds all of them until it is cleared: about 6 MB per 40 s of audio for a stack of full size.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._found: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compute: Callable[[], Any]) -> tuple[Any, bool]:
        """The output for `key` and whether it was there already. One output is computed at a time, so runs
        in several threads never compute the same twice."""
        with self._lock:
            known = key in self._found
            if not known:
                self._found[key] = compute()
            return self._found[key], known

    def clear(self) -> None:
        """Drop all outputs."""
        with self._lock:
            self._found.clear()
