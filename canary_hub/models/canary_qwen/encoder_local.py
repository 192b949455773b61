"""Component canary/fastconformer-local: the same encoder and weights with limited-context attention,
so that minutes of audio pass in one piece."""

from __future__ import annotations

from typing import cast

import torch
from transformers import ParakeetEncoder

from ...stages import Build
from ..cpu import forward_pass
from . import encoder as fastconformer
from .local_attention import LocalAttention
from .options import FastConformerLocalBuild

SUBSAMPLED = 128
"""Output frames of the subsampling at a time: at full size its first convolution holds 64 times what comes out,
4 GiB for ten minutes in float32. Smaller pieces stay in the cache, too: half the time of a whole in bfloat16."""


class LocalFastConformer(fastconformer.FastConformer):
    """(B, n_mels, T) log-mel -> (B, N, d_model), N = ceil(T / subsampling_factor).

    Each frame attends to `left` frames before it and `right` after it. Layers add up: n_layers times that
    is what an output can depend on. Where both reach over the whole clip it equals canary/fastconformer.
    """

    def __init__(self, module: ParakeetEncoder, left: int, right: int) -> None:
        super().__init__(module)
        self.left, self.right = left, right
        for layer in module.layers:
            layer.self_attn.__class__ = LocalAttention  # the parameters stay what they are

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n_mels, T), (B,) -> hidden (B, N, d_model), lengths (B,).

        The steps of `ParakeetEncoder.forward`, which would build an (N, N) mask: its layers also take
        one row of it.
        """
        module = self.module
        x = features.to(self.device, self.dtype).transpose(1, 2)
        lengths = lengths.to(self.device)
        with forward_pass():
            hidden = subsample(module, x, torch.arange(x.shape[1], device=self.device) < lengths[:, None])
            frames = hidden.shape[1]
            lengths = -(-lengths // module.config.subsampling_factor)
            mask = (torch.arange(frames, device=self.device) < lengths[:, None])[:, None, None]
            left, right = min(self.left, frames - 1), min(self.right, frames - 1)
            reach = max(left, right)
            positions = module.encode_positions(hidden[:1, : reach + 1])  # for the distances reach to -reach
            positions = positions[:, reach - left : reach + right + 1]
            hidden = hidden * module.input_scale
            for layer in module.layers:
                hidden = layer(hidden, attention_mask=mask, position_embeddings=positions, left_context=left)
        return hidden, lengths


def subsample(module: ParakeetEncoder, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The convolutions before the layers, piece by piece: (B, T, n_mels), (B, T) bool -> (B, N, d_model).

    An output frame sees less than `subsampling_factor` inputs to either side of its first one, so a piece with
    one more output on each side, dropped again, gives what the whole gives.
    """
    factor = module.config.subsampling_factor
    frames = -(-x.shape[1] // factor)
    pieces = []
    for start in range(0, frames, SUBSAMPLED):
        end = min(start + SUBSAMPLED, frames)
        first = max(0, start - 1)
        inputs = slice(first * factor, (end + 1) * factor)
        pieces.append(module.subsampling(x[:, inputs], mask[:, inputs])[:, start - first : end - first])
    return torch.cat(pieces, dim=1)


def build(build: Build) -> LocalFastConformer:
    """Factory. Raises: WeightsError, as canary/fastconformer's."""
    options = cast(FastConformerLocalBuild, build.options)
    module = fastconformer.build(build).module
    return LocalFastConformer(module, options.left_context, options.right_context)
