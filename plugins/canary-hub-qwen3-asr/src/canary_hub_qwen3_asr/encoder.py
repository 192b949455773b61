"""Component qwen3-asr/encoder: transformers' Qwen3ASREncoder, its packed output put back into rows."""

from __future__ import annotations

from typing import Any

import torch

from canary_hub.errors import WeightsError
from canary_hub.models.cpu import forward_pass
from canary_hub.models.families.parts import Parts
from canary_hub.stages import Build
from canary_hub.weights.tensors import module_bytes, parameter_count

from .family import CHUNK, CHUNK_FRAMES, FAMILY


class Qwen3ASRAudioEncoder:
    """(B, n_mels, T) -> (B, N, d_model): 13 vectors for every second, ceil(n / 8) for the n frames of the last.

    Attention sees windows of 8 s (`n_window_infer`), so memory is linear in the length.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        weight = module.conv2d1.weight
        self.dtype, self.device = weight.dtype, weight.device

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n_mels, T), (B,) -> hidden (B, N, d_model), lengths (B,)."""
        lengths = lengths.cpu()
        frames = lengths // CHUNK * CHUNK_FRAMES + (lengths % CHUNK + 7) // 8
        if not frames.any():
            return torch.zeros(len(features), 0, self.module.config.d_model, dtype=self.dtype), frames
        x = torch.nn.functional.pad(features, (0, -features.shape[-1] % CHUNK)).to(self.device, self.dtype)
        mask = torch.arange(x.shape[-1]) < lengths[:, None]
        # What follows a clip in its batch must not reach its last frames through the convolutions.
        x = x * mask[:, None].to(x)
        with forward_pass():
            packed = self.module(x, mask.long().to(self.device)).last_hidden_state
        rows = packed.split(frames.tolist())
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), frames


def build(build: Build) -> Qwen3ASRAudioEncoder:
    """Factory. Raises: WeightsError for a chunk length that the published checkpoints do not have."""
    parts = Parts(build, FAMILY)
    n_window = parts.config.audio_config.n_window
    if 2 * n_window != CHUNK:
        raise WeightsError(
            f"config.json asks for audio_config.n_window = {n_window}; qwen3-asr/encoder computes {CHUNK // 2} only.",
            "The length formula of Qwen3-ASR holds for chunks of one second.",
        )
    return Qwen3ASRAudioEncoder(parts.encoder())
