"""Component canary/fastconformer-local: canary/fastconformer with attention limited to a band around each frame.

Minutes of audio pass in one piece: memory grows with the length, not with its square.

The attention is what NeMo calls `rel_pos_local_attn`, to which it is equal where both contexts are. (NeMo's Longformer
form lays diagonals of the whole length side by side, and misplaces the position scores where the contexts differ.)
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import ParakeetEncoder
from transformers.models.parakeet.modeling_parakeet import ParakeetEncoderAttention

from ...stages import Build
from ..cpu import forward_pass
from . import encoder as fastconformer
from .options import FastConformerLocalBuild

BLOCK = 128
"""Queries at a time. A block meets left + right + BLOCK keys, of which a query needs left + right + 1."""

SUBSAMPLED = 128
"""Output frames of the subsampling at a time: at full size its first convolution holds 64 times what comes out,
4 GiB for ten minutes in float32. Smaller pieces stay in the cache, too: half the time of a whole in bfloat16."""


def local_attention(
    content_query: torch.Tensor,
    position_query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    relative_key: torch.Tensor,
    valid: torch.Tensor,
    left: int,
    scaling: float,
) -> torch.Tensor:
    """Transformer-XL attention of query i to the keys from i - left to i + right.

    Args:
        content_query, position_query: (B, heads, N, D), the queries plus bias u and plus bias v.
        key, value: (B, heads, N, D).
        relative_key: (1, heads, left + 1 + right, D), the distance i - j falling from left to -right.
        valid: (B, N) bool, False for padding: no query attends to it. A query with nothing but padding
            in reach gets a finite, meaningless row.
        scaling: factor on all scores.

    Returns: (B, heads, N, D).
    """
    length = key.shape[2]
    right = relative_key.shape[2] - 1 - left
    lowest = torch.finfo(key.dtype).min  # not -inf: a row of nothing else would be nan, and spread
    attended = torch.empty_like(value)
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        first, last = max(0, start - left), min(length, end + right)
        by_distance = position_query[:, :, start:end] @ relative_key.transpose(2, 3) * scaling
        bias = by_key(by_distance, lowest)[..., first - start + left : last - start + left]
        attended[:, :, start:end] = scaled_dot_product_attention(
            content_query[:, :, start:end],
            key[:, :, first:last],
            value[:, :, first:last],
            attn_mask=bias.masked_fill(~valid[:, None, None, first:last], lowest),
            scale=scaling,
        )
    return attended


def by_key(by_distance: torch.Tensor, outside: float) -> torch.Tensor:
    """(..., R, L) -> (..., R, R + L - 1): row r moved r places to the right, `outside` around it.

    Transformer-XL's relative shift for a band: rows padded to R + L and read again at a width one smaller.
    """
    *outer, rows, distances = by_distance.shape
    width = rows + distances - 1
    padded = pad(by_distance, (0, rows), value=outside)
    return padded.flatten(-2)[..., : rows * width].reshape(*outer, rows, width)


class LocalAttention(ParakeetEncoderAttention):  # type: ignore[misc, unused-ignore]
    """The parent's weights, and of its attention the band alone.

    transformers' `AttentionInterface` comes too late for this: the parent has by then computed the
    position scores of every pair.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: torch.Tensor,
        attention_mask: torch.Tensor,
        left_context: int,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """(B, N, d_model) -> (B, N, d_model).

        Args:
            position_embeddings: (1, left + 1 + right, d_model), from distance left down to -right.
            attention_mask: (B, 1, 1, N) bool, False for padding.
            left_context: left.
        """
        heads = (self.config.num_attention_heads, self.head_dim)
        query = self.q_proj(hidden_states).unflatten(-1, heads)
        key = self.k_proj(hidden_states).unflatten(-1, heads).transpose(1, 2)
        value = self.v_proj(hidden_states).unflatten(-1, heads).transpose(1, 2)
        attended = local_attention(
            (query + self.bias_u).transpose(1, 2),
            (query + self.bias_v).transpose(1, 2),
            key,
            value,
            self.relative_k_proj(position_embeddings).unflatten(-1, heads).transpose(1, 2),
            attention_mask[:, 0, 0],
            left_context,
            self.scaling,
        )
        return self.o_proj(attended.transpose(1, 2).flatten(2)), None


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
