"""What every exploration gives back: plain data, ready for JSON. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Exploration:
    """Base of the five results.

    exploration: its name in `EXPLORATIONS`.
    stack: what was explored.
    limits: one sentence each on what could not be shown, and why.
    """

    exploration: ClassVar[str]

    stack: str
    limits: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Nested dicts and lists of plain values, ready for `json.dumps`."""
        return {"exploration": self.exploration, **asdict(self)}
