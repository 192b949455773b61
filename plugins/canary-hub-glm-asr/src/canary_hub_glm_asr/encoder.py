"""Component glm-asr/encoder: transformers' GlmAsrEncoder, every window of 30 s alone."""

from __future__ import annotations

from typing import Any

import torch

from canary_hub.models.cpu import forward_pass
from canary_hub.models.families.whisper import fold
from canary_hub.weights.tensors import module_bytes, parameter_count


class GlmAsrAudioEncoder:
    """(B, n_mels, T) -> (B, N, d_model), 50 vectors a second.

    It masks nothing: the silence that fills a window up to 30 s is heard, but its vectors are left out.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        self.dtype, self.device = module.conv1.weight.dtype, module.conv1.weight.device

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n_mels, T), (B,) -> hidden (B, N, d_model), lengths (B,)."""
        windows = fold(features.to(self.device, self.dtype), lengths.cpu())
        with forward_pass():
            hidden = self.module(windows.features).last_hidden_state
        return windows.join(hidden, (windows.lengths - 1) // 2 + 1)
