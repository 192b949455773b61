"""Component granite-speech/projector: a Q-Former that reads blocks of 15 frames with 3 queries."""

from __future__ import annotations

from typing import Any

import torch

from canary_hub.models.cpu import forward_pass
from canary_hub.weights.tensors import module_bytes, parameter_count


class QFormerProjector:
    """(B, N, d_model) -> (B, M, H): 3 audio embeddings for every block of 15 frames begun.

    The last block is filled up with zeros, so the last embeddings of a clip may cover less than `frame_seconds`.
    """

    def __init__(self, module: Any, frame_seconds: float) -> None:
        self.module = module
        self.block: int = module.window_size
        self.queries: int = module.num_queries
        self.frame_seconds = frame_seconds
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        self.dtype, self.device = module.linear.weight.dtype, module.linear.weight.device

    @torch.inference_mode()
    def __call__(self, hidden: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N, d_model), (B,) -> embeds (B, M, H), lengths (B,)."""
        x = hidden.to(self.device, self.dtype)
        if not x.shape[1]:
            return x.new_zeros(len(x), 0, self.module.linear.out_features), lengths
        heard = torch.arange(x.shape[1]) < lengths.cpu()[:, None]
        x = x * heard[..., None].to(x)  # as the module fills up the last block of a clip that is alone
        with forward_pass():
            embeds = self.module(x)
        return embeds, (lengths + self.block - 1) // self.block * self.queries
