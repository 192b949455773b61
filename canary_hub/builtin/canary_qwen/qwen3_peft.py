"""Component canary/qwen3-peft: Qwen3 with the live LoRA adapter, as NeMo trains and runs it."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen3ForCausalLM

from ...cpu import speed_up_single_rows
from ...protocols import Build
from ...weights import assign
from . import CHECKPOINT
from .checkpoint import open_checkpoint
from .layout import get
from .qwen3 import Qwen3Backend, embeddings, load_tokenizer, place_rope, qwen3_config


def build(build: Build) -> Qwen3Backend:
    """Factory: PEFT's own module names are the checkpoint's names after "llm."."""
    files = open_checkpoint(build)
    lora: dict[str, Any] = get(build.weights[CHECKPOINT].config, "lora")
    dtype = getattr(torch, build.dtype)
    table = embeddings(build, files).to(build.device, dtype)
    with torch.device("meta"):
        model = Qwen3ForCausalLM(qwen3_config(build))
        adapted = get_peft_model(
            model,
            LoraConfig(
                r=int(get(lora, "r")),
                lora_alpha=int(get(lora, "lora_alpha")),
                target_modules=list(get(lora, "target_modules")),
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
