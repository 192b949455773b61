"""What makes a decoding step fast on the CPU, where it consists of reading all weights and the cache once.

Figures are of two Zen 4 cores that read 29 GB/s, without AMX.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "canary-cpu"
"""The name of `attend` for transformers' `attn_implementation`."""

_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def forward_pass() -> Iterator[None]:
    """Around each forward pass; never yield to a caller inside of it.

    `RowLinear` turns a switch of the whole process, so passes run one at a time. On a CPU that costs
    nothing: each of them takes every core.
    """
    with _ONE_AT_A_TIME:
        yield


class RowLinear(torch.nn.Linear):
    """A Linear that multiplies a single row without oneDNN.

    In bfloat16 oneDNN reads 16 GB/s here (8 through torch.mv), PyTorch's own product 28. From two rows
    on oneDNN is the faster one, at a whole prompt by ten times.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out), inside `forward_pass`."""
        if x.numel() != self.in_features or self.bias is not None:
            return super().forward(x)
        mkldnn = torch.backends.mkldnn
        before = mkldnn.enabled
        mkldnn.enabled = False
        try:
            return torch.mv(self.weight, x.reshape(-1)).view(*x.shape[:-1], -1)
        finally:
            mkldnn.enabled = before


def speed_up_single_rows(module: torch.nn.Module) -> None:
    """Turn the bias-free linears of a bfloat16 CPU module into `RowLinear`, in place."""
    for linear in module.modules():
        if type(linear) is torch.nn.Linear and linear.weight.dtype == torch.bfloat16:
            linear.__class__ = RowLinear


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    canary_hub_weights: list[torch.Tensor] | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' sdpa attention, but a single position on the CPU as two plain products: 0.08 ms a
    layer instead of 0.33 at 160 positions, 0.13 instead of 1.1 at 600.

    query (B, heads, L, D), key and value (B, key heads, S, D), mask (B, 1, L, S) bool -> (B, L, heads, D).

    Args:
        canary_hub_weights: gets what the last position attends to, (B, heads, S) float32, layer by layer.
    """
    rows, heads, positions, dim = query.shape
    plain = positions == 1 and query.device.type == "cpu"
    if plain or canary_hub_weights is not None:
        grouped = query[:, :, -1].reshape(rows, key.shape[1], -1, dim)
        scores = (grouped @ key.transpose(2, 3)).float() * scaling
        if attention_mask is not None:
            scores = scores.masked_fill(~attention_mask[:, :, -1:], -torch.inf)
        weights = scores.softmax(-1)
        if canary_hub_weights is not None:
            canary_hub_weights.append(weights.reshape(rows, heads, -1))
        if plain:
            return (weights.to(value.dtype) @ value).reshape(rows, 1, heads, dim), None
    attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **others
    )
    return attended


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
