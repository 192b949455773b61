"""Component fake/encoder: means of eight frames, turned by a fixed random matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Port, Stage
from canary_hub.stages import Build

if TYPE_CHECKING:
    import torch

CANARY_HUB_API = 2  # the version of hooks and specs that this is written for

N_MELS, D_MODEL, FACTOR = 128, 144, 8


class MeanEncoder:
    """(B, 128, T) features -> (B, N, 144) hidden vectors, N = ceil(T / 8).

    weight: (144, 128).
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight
        self.nbytes = weight.nbytes

    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 128, T), (B,) -> hidden (B, N, 144), lengths (B,)."""
        import torch

        x = features.to(self.weight)
        outside = torch.arange(x.shape[2], device=x.device) >= lengths.to(x.device)[:, None]
        x = x.masked_fill(outside[:, None], 0)  # what follows a clip in its batch must not be heard
        x = torch.nn.functional.pad(x, (0, -x.shape[2] % FACTOR))
        means = x.reshape(*x.shape[:2], x.shape[2] // FACTOR, FACTOR).mean(3)
        return means.transpose(1, 2) @ self.weight.T, (lengths + FACTOR - 1) // FACTOR


def build(build: Build) -> MeanEncoder:
    """Factory, called on first use. Real weights come from `build.weights[role].tensors()`."""
    import torch

    weight = torch.randn(D_MODEL, N_MELS, generator=torch.Generator().manual_seed(0)) / N_MELS**0.5
    return MeanEncoder(weight.to(build.device, getattr(torch, build.dtype)))


CONTRACT = Contract(
    accepts=(Port("features", dim=N_MELS, rate_hz=100.0, layout="B F T"),),
    produces=(Port("hidden", dim=D_MODEL, rate_hz=100.0 / FACTOR, layout="B N D"),),
)


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """What this plugin adds."""
    return [
        ComponentSpec(
            stage=Stage.ENCODER,
            id="fake/encoder",
            title="Means of eight frames, turned by a fixed random matrix",
            factory=f"{__name__}:build",
            contract=CONTRACT,
        )
    ]
