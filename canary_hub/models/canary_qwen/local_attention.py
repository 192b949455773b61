"""Self-attention within a band around each frame, block by block: memory grows with the length, not its square.

What NeMo calls `rel_pos_local_attn`, to which it is equal where both contexts are. (NeMo's Longformer form lays
diagonals of the whole length side by side, and misplaces the position scores where the contexts differ.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers.models.parakeet.modeling_parakeet import ParakeetEncoderAttention

BLOCK = 128
"""Queries at a time. A block meets left + right + BLOCK keys, of which a query needs left + right + 1."""


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
