"""Component fake/projector: a fixed random matrix into the LLM's space."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Port, Stage
from canary_hub.stages import Build

if TYPE_CHECKING:
    import torch

CANARY_HUB_API = 2  # the version of hooks and specs that this is written for

D_MODEL, HIDDEN_SIZE = 144, 128


class MatrixProjector:
    """(B, N, 144) hidden vectors -> (B, N, 128), one audio embedding each.

    weight: (128, 144).
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight
        self.nbytes = weight.nbytes

    def __call__(self, hidden: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N, 144), (B,) -> embeds (B, N, 128), lengths (B,)."""
        return hidden.to(self.weight) @ self.weight.T, lengths


def build(build: Build) -> MatrixProjector:
    """Factory, called on first use. Real weights come from `build.weights[role].tensors()`."""
    import torch

    weight = torch.randn(HIDDEN_SIZE, D_MODEL, generator=torch.Generator().manual_seed(0)) / D_MODEL**0.5
    return MatrixProjector(weight.to(build.device, getattr(torch, build.dtype)))


CONTRACT = Contract(
    accepts=(Port("hidden", dim=D_MODEL, layout="B N D"),),
    produces=(Port("embeds", dim=HIDDEN_SIZE, layout="B M H"),),
)


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """What this plugin adds."""
    return [
        ComponentSpec(
            stage=Stage.PROJECTOR,
            id="fake/projector",
            title="A fixed random matrix into the LLM's space",
            factory=f"{__name__}:build",
            contract=CONTRACT,
        )
    ]
