"""Component canary/linear: one linear layer from d_model to the LLM's hidden_size."""

from __future__ import annotations

import torch

from ...stages import Build
from ...weights.tensors import assign, module_bytes, parameter_count
from .checkpoint import open_checkpoint
from .layout import PROJECTION, size
from .plugin import CHECKPOINT


class LinearProjector:
    """(B, N, d_model) -> (B, N, hidden_size): one audio embedding per encoder frame."""

    def __init__(self, module: torch.nn.Linear) -> None:
        self.module = module
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)

    @torch.inference_mode()
    def __call__(self, hidden: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N, D), (B,) -> embeds (B, N, H), lengths (B,)."""
        weight = self.module.weight
        return self.module(hidden.to(weight.device, weight.dtype)), lengths


def build(build: Build) -> LinearProjector:
    """Factory: on the meta device, then filled from the mapped file."""
    files = open_checkpoint(build)
    config = build.weights[CHECKPOINT].config
    with torch.device("meta"):
        module = torch.nn.Linear(size(config, "perception.encoder.d_model"), size(config, "perception.output_dim"))
    assign(module, lambda name: files.tensor(f"{PROJECTION}.{name}"), getattr(torch, build.dtype), build.device)
    return LinearProjector(module)
