"""A projector that looks at one audio frame, or at a few neighbours joined, at a time."""

from __future__ import annotations

from typing import Any

import torch

from ...stages import Build
from ...weights.tensors import module_bytes, parameter_count
from ..cpu import forward_pass
from .family import Family
from .parts import Parts


class FrameProjector:
    """(B, N, D) -> (B, N // merge, H): every `merge` neighbours joined, then transformers' projector.

    frame_seconds: what one embedding covers, for the details.
    """

    def __init__(self, module: torch.nn.Module, merge: int, frame_seconds: float) -> None:
        self.module = module
        self.merge = merge
        self.frame_seconds = frame_seconds
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        weight = next(module.parameters())
        self.dtype, self.device = weight.dtype, weight.device

    @torch.inference_mode()
    def __call__(self, hidden: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N, D), (B,) -> embeds (B, M, H), lengths (B,); neighbours that do not fill a group are dropped."""
        rows, n, d = hidden.shape
        groups = n // self.merge
        x = hidden[:, : groups * self.merge].reshape(rows, groups, d * self.merge)
        with forward_pass():
            embeds: Any = self.module(x.to(self.device, self.dtype))
        return embeds, lengths // self.merge


def build_projector(build: Build, family: Family) -> FrameProjector:
    """The family's projector with its checkpoint's weights. Raises: WeightsError."""
    return FrameProjector(Parts(build, family).projector(), family.merge, family.merge / family.hidden_hz)
