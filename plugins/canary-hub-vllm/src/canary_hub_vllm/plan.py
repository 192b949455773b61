"""What vLLM is given and what its answers become, without vLLM.

Checked against the sources of vLLM 0.20, 0.32 and 0.33.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from canary_hub.errors import OptionError
from canary_hub.models.causal_lm.options import GenerateCall

from .options import VllmBuild

TOP = 20
"""So many of the most probable tokens are asked for at each step: vLLM's own default limit."""


def settings(folder: Path, dtype: str, options: VllmBuild) -> dict[str, Any]:
    """Arguments of `vllm.EngineArgs` for the merged LLM in `folder`; one GPU."""
    return {
        "model": str(folder),
        "dtype": dtype,
        "max_model_len": options.max_model_len,
        "gpu_memory_utilization": options.gpu_memory_utilization,
        "enable_prompt_embeds": True,
        # Two clips share a few embeddings of the prompt's text, which is less than a block of the cache.
        "enable_prefix_caching": False,
        # Text is made from the ids here, with the tokenizer that made the prompt.
        "skip_tokenizer_init": True,
        "max_logprobs": TOP,
        "logprobs_mode": "raw_logprobs",  # before any temperature, as `Step` has them
        "disable_log_stats": True,
    }


def sampling(options: GenerateCall, eos_ids: Sequence[int]) -> dict[str, Any]:
    """Arguments of `vllm.SamplingParams`. Every row draws with the same seed, so that what it writes does not depend
    on its place in a batch."""
    return {
        "temperature": options.temperature,
        "seed": options.seed if options.temperature > 0 else None,
        "max_tokens": options.max_new_tokens,
        "logprobs": TOP,
        # These ends alone: vLLM would add those of a generation config, and Qwen's stops at pad, too.
        "stop_token_ids": list(eos_ids),
        "ignore_eos": True,
        "detokenize": False,
    }


def prompts(inputs_embeds: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
    """(B, L, H), (B, L) left-padded -> per row (n, H) without its padding, on the CPU, from where vLLM sends it to its
    own process."""
    rows, mask = inputs_embeds.cpu(), attention_mask.cpu().bool()
    return [row[keep] for row, keep in zip(rows, mask, strict=True)]


def require_room(positions: int, max_new_tokens: int, max_model_len: int) -> None:
    """The longest row has room for its answer: vLLM would end it at `max_model_len` without a word.

    Raises: OptionError.
    """
    if positions + max_new_tokens > max_model_len:
        raise OptionError(
            f"A prompt of {positions} positions and {max_new_tokens} new tokens are more than the {max_model_len} that "
            "vLLM was started with.",
            f"Set max_model_len to {positions + max_new_tokens} or more, or max_new_tokens lower.",
        )


def logits_of(best: Sequence[Mapping[int, float] | None], vocabulary: int) -> torch.Tensor:
    """Log-probabilities of each row's most probable tokens -> (B, V) float32, as far as they tell.

    A softmax over a row gives those tokens their own probabilities, and the others equal shares of the rest: the
    entropy is an upper bound. Rows that are None have stopped, and are 0.
    """
    logits = torch.zeros(len(best), vocabulary)
    for row, known in zip(logits, best, strict=True):
        if known is None:
            continue
        others = vocabulary - len(known)
        left = max(1.0 - math.fsum(map(math.exp, known.values())), 1e-12)
        row.fill_(math.log(left / others) if others else 0.0)
        row[list(known)] = torch.tensor(list(known.values()))
    return logits
