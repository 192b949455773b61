"""Built components, shared between stacks: the same component is built once and counted.

The key is what makes two components the same: id, build options, weights, dtype and device.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from ..errors import is_out_of_memory
from ..settings import number
from ..weights.tensors import parameter_count

IDLE_ENTRIES = 64
"""How many entries that nobody uses stay at most, however small: build options may vary without end."""


@dataclass(eq=False)
class Entry:
    """One built component."""

    key: Hashable
    component: Any
    nbytes: int = 0
    load_seconds: float = 0.0
    users: int = 0
    last_used: float = 0.0

    @property
    def parameters(self) -> int:
        """How many numbers were learnt: what the component states as `parameters`, or holds as a torch module."""
        stated = getattr(self.component, "parameters", 0)
        return stated if isinstance(stated, int) else parameter_count(self.component)


class Pool:
    """Components by key. An entry nobody uses stays until the bytes are needed.

    max_bytes: how much may stay loaded, in bytes; what is in use is never evicted. Without it, the
        setting CANARY_HUB_POOL_GB, else three quarters of the machine's memory.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        if max_bytes is None:
            max_bytes = _bytes_from_env()
        if max_bytes is None and (total := machine_bytes()) is not None:
            max_bytes = total * 3 // 4
        self.max_bytes = max_bytes
        self._entries: dict[Hashable, Entry] = {}
        # A lock goes with the last one who waits for it: keys come without end, as build options do.
        self._building: WeakValueDictionary[Hashable, threading.Lock] = WeakValueDictionary()
        self._given_back: deque[Entry] = deque()
        self._lock = threading.Lock()

    def acquire(self, key: Hashable, build: Callable[[], Any]) -> Entry:
        """The entry of that key, built by the first caller while others wait; counted as used.

        A component states its size through an attribute `nbytes` (int, bytes); without it, it counts 0.
        Where memory is too short to build it, what nobody uses is dropped, and it is tried once more.
        """
        with self._lock:
            building = self._building.setdefault(key, threading.Lock())
        with building:
            with self._lock:
                entry = self._entries.get(key)
                if entry is not None:
                    entry.users += 1
                self._settle()
                if entry is not None:
                    return entry
            started = time.perf_counter()
            component = self._built(build)
            entry = Entry(key, component, int(getattr(component, "nbytes", 0)), users=1)
            entry.load_seconds = time.perf_counter() - started
            with self._lock:
                self._entries[key] = entry
                self._settle()
            what = key[0] if isinstance(key, tuple) and key else key
            logging.getLogger(__name__).info("loaded %s in %.2f s, %d bytes", what, entry.load_seconds, entry.nbytes)
            return entry

    def _built(self, build: Callable[[], Any]) -> Any:
        try:
            return build()
        except Exception as error:
            if not is_out_of_memory(error) or not self.clear():
                raise
        return build()  # here, where the error no longer holds what was built of it

    def release(self, entry: Entry) -> None:
        """Give an entry back; it stays loaded until its bytes are needed.

        Safe in a finalizer, which may run within a thread that holds the lock: then it counts as given back when
        the pool is next asked for something.
        """
        self._given_back.append(entry)
        if self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def clear(self) -> int:
        """Drop everything that nobody uses; returns how many entries that were."""
        with self._lock:
            self._settle()
            used = {key: entry for key, entry in self._entries.items() if entry.users}
            dropped, self._entries = len(self._entries) - len(used), used
            return dropped

    @property
    def nbytes(self) -> int:
        """Bytes of all loaded components."""
        with self._lock:
            return sum(entry.nbytes for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def _settle(self) -> None:
        """Count what was given back, and evict. The lock is held."""
        while self._given_back:
            entry = self._given_back.popleft()
            entry.users -= 1
            entry.last_used = time.monotonic()
        self._evict()

    def _evict(self) -> None:
        idle = sorted((e for e in self._entries.values() if not e.users), key=lambda e: e.last_used)
        total = sum(entry.nbytes for entry in self._entries.values())
        most = math.inf if self.max_bytes is None else self.max_bytes
        for left, entry in zip(range(len(idle), 0, -1), idle, strict=True):
            if total <= most and left <= IDLE_ENTRIES:
                return
            del self._entries[entry.key]
            total -= entry.nbytes


def machine_bytes() -> int | None:
    """Memory of this machine, or of the container (cgroup) this runs in; None where the system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # version 2, version 1
        try:
            total = min(total, int(Path(limit).read_text("ascii")))
        except (OSError, ValueError):  # another version, or "max": no limit
            continue
    return total


def _bytes_from_env() -> int | None:
    gib = number("CANARY_HUB_POOL_GB", None, example=8)
    return None if gib is None else int(gib * 2**30)
