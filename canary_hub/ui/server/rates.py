"""How much one visitor may do within a while; counted in memory, so a restart begins anew."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ...settings import number


@dataclass
class Rate:
    """At most `most` (requests, bytes) of one visitor within `seconds`."""

    most: float
    seconds: float
    now: Callable[[], float] = time.monotonic
    _spent: dict[str, deque[tuple[float, float]]] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def wait(self, visitor: str, amount: float = 1.0) -> int:
        """0 when the visitor may, and then it is counted; else whole seconds until it may be tried again."""
        with self._lock:
            now = self.now()
            for who in [who for who, spent in self._spent.items() if spent[-1][0] <= now - self.seconds]:
                del self._spent[who]  # nobody is remembered for longer than it counts
            spent = self._spent.setdefault(visitor, deque())
            while spent and spent[0][0] <= now - self.seconds:
                spent.popleft()
            if sum(spent_then for _, spent_then in spent) + amount <= self.most:
                spent.append((now, amount))
                return 0
            if not spent:
                del self._spent[visitor]
                return math.ceil(self.seconds)
            return max(1, math.ceil(spent[0][0] + self.seconds - now))


def rate_from_env(variable: str, usual: float | None, seconds: float, unit: float = 1.0) -> Rate | None:
    """The rate that a setting names; None for no limit. Raises: OptionError for what is no positive number.

    unit: what the setting counts in, such as 1e6 for megabytes.
    """
    most = number(variable, usual, example=60)
    return None if most is None else Rate(most * unit, seconds)
