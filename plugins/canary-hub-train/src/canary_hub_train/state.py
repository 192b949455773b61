"""The state of a training on disk: written beside and renamed, so that it is always whole."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from canary_hub.atomic import beside
from canary_hub.errors import HubError

from .export import load_exported
from .model import Nano

EVERY = 60.0
"""Seconds between two savings at most; what a kill can cost."""


@dataclass
class Progress:
    """How far a training is. Data and augmentation follow from (phase, step), so this is all."""

    phase: int = 0
    step: int = 0
    seconds: float = 0.0
    """Spent training, over all sittings."""
    utterances: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    """What was logged."""


class StateFile:
    """`state.pt` in a folder: weights, optimizer, random state, progress. `before.pt`: weights kept for later."""

    def __init__(self, folder: Path, recipe: str) -> None:
        self.path, self.before, self.recipe = folder / "state.pt", folder / "before.pt", recipe
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved > EVERY - 5

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer | None, progress: Progress) -> None:
        """Writes the whole state; a reader sees the old one or the new one."""
        state = {
            "recipe": self.recipe,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict() if optimizer else None,
            "random": torch.get_rng_state(),
            "progress": json.dumps(progress.__dict__),
        }
        with beside(self.path) as part:
            torch.save(state, part)
        self._saved = time.monotonic()

    def keep_weights(self, model: nn.Module) -> None:
        """Keeps the weights as they are now for `kept_weights`."""
        with beside(self.before) as part:
            torch.save(model.state_dict(), part)

    def kept_weights(self, device: torch.device) -> dict[str, torch.Tensor]:
        """What `keep_weights` kept last."""
        kept: dict[str, torch.Tensor] = torch.load(self.before, map_location=device, weights_only=True)
        return kept

    def read(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state, or None where there is none.

        Raises: HubError when the folder holds another recipe's state.
        """
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        if state["recipe"] != self.recipe:
            raise HubError(
                f"{self.path.parent} holds a training of recipe {state['recipe']!r}, not {self.recipe!r}.",
                "Choose another folder with --state.",
            )
        state["progress"] = Progress(**json.loads(state["progress"]))
        return state


def load_encoder(model: Nano, folder: Path) -> None:
    """Takes the encoder from another training's state, or from an exported checkpoint.

    Raises: HubError when the folder holds neither, or an encoder of other sizes.
    """
    path = folder / "state.pt"
    if path.exists():
        weights: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)["model"]
        taken = {k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")}
    else:
        taken = load_exported(folder).encoder.state_dict()
    try:
        model.encoder.load_state_dict(taken)
    except RuntimeError as error:
        raise HubError(f"The encoder in {folder} has other sizes.") from error


def load_checkpoint(model: Nano, folder: Path) -> None:
    """Takes encoder, projector and LLM from an exported checkpoint.

    Raises: WeightsError when there is none; HubError when it is of other sizes.
    """
    exported = load_exported(folder)
    try:
        for part in ("encoder", "proj", "llm"):
            getattr(model, part).load_state_dict(getattr(exported, part).state_dict())
    except RuntimeError as error:
        raise HubError(f"The checkpoint in {folder} has other sizes.") from error
