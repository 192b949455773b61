"""The state of `mini`'s training on disk: whole at any moment, a minute old at most."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from canary_hub.atomic import beside
from canary_hub.errors import HubError

from .model import Mini, Sizes

EVERY = 60.0
"""Seconds between two savings: what a kill can cost."""


@dataclass
class Progress:
    """How far the training is: the phase's name, its step, and sums over all sittings."""

    phase: str
    step: int = 0
    seconds: float = 0.0
    clips: int = 0
    phase_seconds: float = 0.0
    hardness: float = 0.0
    """Of the copying task, 0 to 1: it grows as the task is mastered."""


class StateFile:
    """`state.pt` in a folder, and `curve.jsonl` beside it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.curve = folder / "state.pt", folder / "curve.jsonl"
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved > EVERY - 5

    def save(
        self, model: Mini, average: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer | None, at: Progress
    ) -> None:
        """Writes everything; a reader sees the old state or the new one."""
        state = {
            "sizes": asdict(model.sizes),
            "model": model.state_dict(),
            "average": average,
            "optimizer": optimizer.state_dict() if optimizer else None,
            "progress": asdict(at),
        }
        with beside(self.path) as part:
            torch.save(state, part)
        self._saved = time.monotonic()

    def read(self, sizes: Sizes | None = None) -> dict[str, Any] | None:
        """The saved state, or None where there is none.

        Raises: HubError when it is of other sizes.
        """
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        if sizes is not None and state["sizes"] != asdict(sizes):
            raise HubError(f"{self.path} holds a model of other sizes.", "Choose another folder with --folder.")
        state["progress"] = Progress(**state["progress"])
        return state

    def log(self, row: dict[str, Any]) -> None:
        """One more line of the curve."""
        with self.curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
