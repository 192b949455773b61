"""Built components, shared between stacks: the same component is built once and counted.

The key is what makes two components the same: id, build options, weights, dtype and device.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from .weights import parameter_count


@dataclass(eq=False)
class Entry:
    """One built component. `lock` is held while it does work that must not be interleaved."""

    key: Hashable
    component: Any
    nbytes: int = 0
    load_seconds: float = 0.0
    users: int = 0
    last_used: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def parameters(self) -> int:
        """How many numbers were learnt: what the component states as `parameters`, or holds as a torch module."""
        stated = getattr(self.component, "parameters", 0)
        return stated if isinstance(stated, int) else parameter_count(self.component)


class Pool:
    """Components by key. An entry nobody uses stays until the bytes are needed.

    max_bytes: how much may stay loaded, in bytes; what is in use is never evicted. Without it, the
        setting CANARY_HUB_POOL_GB, else no limit.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        if max_bytes is None and os.environ.get("CANARY_HUB_POOL_GB"):
            max_bytes = int(float(os.environ["CANARY_HUB_POOL_GB"]) * 2**30)
        self.max_bytes = max_bytes
        self._entries: dict[Hashable, Entry] = {}
        self._building: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def acquire(self, key: Hashable, build: Callable[[], Any]) -> Entry:
        """The entry of that key, built by the first caller while others wait; counted as used.

        A component states its size through an attribute `nbytes` (int, bytes); without it, it counts 0.
        """
        with self._lock:
            building = self._building.setdefault(key, threading.Lock())
        with building:
            with self._lock:
                entry = self._entries.get(key)
                if entry is not None:
                    entry.users += 1
                    return entry
            started = time.perf_counter()
            component = build()
            entry = Entry(key, component, int(getattr(component, "nbytes", 0)), users=1)
            entry.load_seconds = time.perf_counter() - started
            with self._lock:
                self._entries[key] = entry
                self._evict()
            return entry

    def release(self, entry: Entry) -> None:
        """Give an entry back; it stays loaded until its bytes are needed."""
        with self._lock:
            entry.users -= 1
            entry.last_used = time.monotonic()
            self._evict()

    def clear(self) -> None:
        """Drop everything that nobody uses."""
        with self._lock:
            self._entries = {key: entry for key, entry in self._entries.items() if entry.users}

    @property
    def nbytes(self) -> int:
        """Bytes of all loaded components."""
        with self._lock:
            return sum(entry.nbytes for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def _evict(self) -> None:
        if self.max_bytes is None:
            return
        idle = sorted((e for e in self._entries.values() if not e.users), key=lambda e: e.last_used)
        total = sum(entry.nbytes for entry in self._entries.values())
        for entry in idle:
            if total <= self.max_bytes:
                return
            del self._entries[entry.key]
            total -= entry.nbytes
