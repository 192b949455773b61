"""The attention weights of one teacher-forced pass, collected without leaving transformers' Qwen3.

An attention function of our own is registered beside transformers' ones (its documented way to plug one
in): it computes what sdpa computes and keeps the weights of the rows that were asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, Qwen3ForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .cpu import forward_pass

_NAME = "canary_hub_recording"


def _recording(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """query (1, heads, T, D), key and value (1, kv_heads, T, D); appends (heads, rows, columns)."""
    keep: list[torch.Tensor]
    keep, first, columns = kwargs.pop("canary_hub_keep")
    groups = query.shape[1] // key.shape[1]
    scores = query[0, :, first:] @ key[0].repeat_interleave(groups, dim=0).transpose(1, 2) * kwargs["scaling"]
    row = torch.arange(first, query.shape[2], device=query.device)[:, None]
    future = torch.arange(key.shape[2], device=query.device) > row
    keep.append(scores.float().masked_fill(future, -torch.inf).softmax(-1)[..., :columns])
    attended: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return attended


AttentionInterface.register(_NAME, _recording)
AttentionMaskInterface.register(_NAME, sdpa_mask)


@torch.inference_mode()
def attention_weights(model: Qwen3ForCausalLM, embeds: torch.Tensor, first: int, columns: int) -> torch.Tensor:
    """One pass over embeds (1, T, H) -> (layers * heads, T - first, columns) float32.

    Args:
        first: the first position whose attention is kept.
        columns: keep the attention to the first so many positions.
    """
    keep: list[torch.Tensor] = []
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        with forward_pass():
            model.model(inputs_embeds=embeds, use_cache=False, canary_hub_keep=(keep, first, columns))
    finally:
        config._attn_implementation = before
    return torch.cat(keep)
