"""Whisper's encoder on clips of their own length, each independent of its batch."""

from __future__ import annotations

from typing import Any

import torch

from ...stages import Build
from ...weights.tensors import module_bytes, parameter_count
from ..cpu import forward_pass
from .checkpoint import WhisperCheckpoint


class ClipEncoder:
    """(B, n_mels, T) -> (B, N, d_model), one vector for every two frames of 10 ms.

    module: transformers' encoder; `conv1`, `conv2`, `embed_positions`, `layers`, `layer_norm` are used, in the order of
    transformers 5.24 `WhisperEncoder.forward`, which takes windows of 30 s alone.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        self.dtype, self.device = module.conv1.weight.dtype, module.conv1.weight.device

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n_mels, T), (B,) -> hidden (B, N, d_model), lengths (B,)."""
        frames = (lengths + 1) // 2
        if not features.shape[-1]:
            return features.new_zeros(len(features), 0, self.module.config.d_model), frames
        with forward_pass():
            hidden = self._encode(features.to(self.device, self.dtype), lengths.to(self.device), frames.to(self.device))
        return hidden, frames

    def _encode(self, features: torch.Tensor, lengths: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """What lies past a row's length is zero where a convolution looks, and unseen by attention."""
        module, gelu = self.module, torch.nn.functional.gelu
        padded = bool((lengths < features.shape[-1]).any())
        x = gelu(module.conv1(features))
        if padded:
            x = x * (torch.arange(x.shape[-1], device=x.device) < lengths[:, None])[:, None]
        x = gelu(module.conv2(x)).transpose(1, 2)
        x = x + module.embed_positions.weight[: x.shape[1]]
        mask = None
        if padded:
            mask = (torch.arange(x.shape[1], device=x.device) < frames[:, None])[:, None, None]
        for layer in module.layers:
            x = layer(x, mask)
        out: torch.Tensor = module.layer_norm(x)
        return out


def build(build: Build) -> ClipEncoder:
    """Factory of whisper/encoder. Raises: WeightsError."""
    return ClipEncoder(WhisperCheckpoint(build).encoder())
