"""Component canary/qwen3-peft: Qwen3 with the live LoRA adapter, as NeMo trains and runs it."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model

from ...stages import Build
from ...weights.tensors import assign
from ..cpu import speed_up_single_rows
from .checkpoint import CHECKPOINT, open_checkpoint
from .layout import lora_targets, size
from .llm import Qwen3Backend, embeddings, empty_model, load_tokenizer, place_rope


def build(build: Build) -> Qwen3Backend:
    """Factory: PEFT's own module names are the checkpoint's names after "llm."."""
    files = open_checkpoint(build)
    config = build.weights[CHECKPOINT].config
    dtype = getattr(torch, build.dtype)
    table = embeddings(build, files).to(build.device, dtype)
    model = empty_model(build)
    with torch.device("meta"):
        adapted = get_peft_model(
            model,
            LoraConfig(
                r=size(config, "lora.r"),
                lora_alpha=size(config, "lora.lora_alpha"),
                target_modules=list(lora_targets(config)),
                task_type="CAUSAL_LM",
            ),
        )

    def source(name: str) -> torch.Tensor:
        return table if name.endswith(("embed_tokens.weight", "lm_head.weight")) else files.tensor(f"llm.{name}")

    assign(adapted, source, dtype, build.device)
    place_rope(model, build.device)
    if build.device == "cpu":
        speed_up_single_rows(model)

    def switch(on: bool) -> None:
        if on:
            adapted.enable_adapter_layers()
        else:
            adapted.disable_adapter_layers()

    return Qwen3Backend(model, load_tokenizer(build), switch)
