"""The decoding loop over a causal LM of transformers: one step per token, for a left-padded batch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import torch
from transformers import DynamicCache

from ...stages import RowStop, Step
from ..cpu import forward_pass


@torch.inference_mode()
def decode(
    model: Any,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor,
    eos_ids: Collection[int],
    pad_id: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    stop: RowStop | None = None,
    attention: bool = False,
) -> Iterator[Step]:
    """Prefill, then one `Step` per token until every row has ended, or `max_new_tokens`.

    Args:
        model: with `model`, `lm_head` and `config`, and `cpu.ATTENTION` as its attention.
        inputs_embeds: (B, L, H), left-padded.
        attention_mask: (B, L) bool, False in the padding.
        temperature: 0 takes the most probable token, above 0 draws with `seed`.
        stop: may end a row early.
        attention: every `Step` carries the attention of its position to the prompt.
    """
    device = inputs_embeds.device
    rows = inputs_embeds.shape[0]
    mask = attention_mask.to(device)
    padded = not bool(mask.all())
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    draw = torch.Generator(device=device).manual_seed(seed) if temperature > 0 else None
    cache = DynamicCache(config=model.config)
    x = inputs_embeds
    new: list[list[int]] = [[] for _ in range(rows)]
    open_rows = [True] * rows
    for _ in range(max_new_tokens):
        weights: list[torch.Tensor] | None = [] if attention else None
        with forward_pass():
            # By position: transformers 5.24 calls the fourth `cache`, 5.9 `past_key_values`.
            hidden = model.model(
                None,
                # Without padding the causal mask is implied, and attention takes its faster path.
                mask if padded else None,
                positions,
                cache,
                x,
                use_cache=True,
                canary_hub_weights=weights,
            ).last_hidden_state
            # A 2-D input: with a 3-D slice F.linear copies the whole transposed head.
            logits = model.lm_head(hidden[:, -1])
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        if draw is None:
            ids = logits.argmax(dim=-1)
        else:
            ids = torch.multinomial(torch.softmax(logits.float() / temperature, -1), 1, generator=draw)[:, 0]
        chosen = logprobs.gather(1, ids[:, None])[:, 0].tolist()
        yield Step(
            ids=tuple(id if going else None for id, going in zip(ids.tolist(), open_rows, strict=True)),
            logprobs=tuple(p if going else math.nan for p, going in zip(chosen, open_rows, strict=True)),
            logits=logits,
            attention=torch.cat(weights, dim=1)[..., : inputs_embeds.shape[1]] if weights else None,
        )
        for row, id in enumerate(ids.tolist()):
            if open_rows[row]:
                new[row].append(id)
                open_rows[row] = id not in eos_ids and not (stop is not None and stop(row, new[row]))
        if not any(open_rows):
            return
        # Rows that stopped go on as pad, like in transformers' generate.
        going_on = torch.tensor(open_rows, device=device)
        x = model.model.embed_tokens(torch.where(going_on, ids, pad_id))[:, None]
        positions = positions[:, -1:] + 1
        if padded:
            mask = torch.cat([mask, mask.new_ones(rows, 1)], dim=1)
