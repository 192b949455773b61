"""Component granite-speech/encoder: transformers' GraniteSpeechCTCEncoder, one clip at a time."""

from __future__ import annotations

from typing import Any

import torch

from canary_hub.models.cpu import forward_pass
from canary_hub.weights.tensors import module_bytes, parameter_count


class GraniteConformer:
    """(B, F, T) -> (B, T, d_model): one vector for each feature frame, attention in blocks of 4 s.

    The module takes no mask, and in a batch its convolutions and attention would hear the padding of shorter
    clips: so every clip goes through alone.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        weight = module.input_linear.weight
        self.dtype, self.device = weight.dtype, weight.device

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, F, T), (B,) -> hidden (B, T, d_model), lengths (B,)."""
        x = features.to(self.device, self.dtype).transpose(1, 2)
        rows = []
        for row, n in zip(x, lengths.tolist(), strict=True):
            if not n:
                rows.append(x.new_zeros(0, self.module.config.hidden_dim))
                continue
            with forward_pass():
                rows.append(self.module(row[None, :n]).last_hidden_state[0])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths
