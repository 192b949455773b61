"""Component canary/qwen3: Qwen3 with the LoRA update merged at load.

The base q and v weights stay beside the merged ones, so LLM mode can switch the adapter off without a second
model.
"""

from __future__ import annotations

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from ...errors import WeightsError
from ...specs import WeightsRef
from ...stages import Build, Segment, Tensors, Text
from ...weights.tensors import assign
from ..causal_lm.backend import AdapterBackend, MergedLinears
from ..causal_lm.chat_tokenizer import ChatTokenizer
from ..cpu import ATTENTION, speed_up_single_rows
from .checkpoint import BASE_LLM, CHECKPOINT, open_checkpoint
from .layout import EMBEDDINGS, llm_name, lora_names, lora_scaling, lora_targets, size, text
from .prompts import user_message


class Qwen3Backend(AdapterBackend):
    """The LLM behind canary/qwen3 and canary/qwen3-peft. It ends at the end of a turn alone, as NeMo does (Qwen's own
    generation config also stops at pad)."""

    def chat_segments(self, message: str) -> list[Segment]:
        """A user message as a chat prompt without audio."""
        return user_message([Text(message)])


def load_tokenizer(build: Build) -> ChatTokenizer:
    """The base LLM's tokenizer with the checkpoint's placeholder."""
    base = build.weights[BASE_LLM]
    return ChatTokenizer(
        base.file("tokenizer.json"),
        base.file("tokenizer_config.json"),
        text(build.weights[CHECKPOINT].config, "audio_locator_tag"),
    )


def empty_model(build: Build) -> Qwen3ForCausalLM:
    """Qwen3 as the base LLM's config.json describes it, on the meta device.

    Raises: WeightsError for a config that transformers does not take.
    """
    settings = dict(build.weights[BASE_LLM].config)
    try:
        with torch.device("meta"):
            return Qwen3ForCausalLM(Qwen3Config.from_dict(settings, attn_implementation=ATTENTION))
    except Exception as error:  # transformers has no class of its own for this
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"transformers cannot build Qwen3 from the base LLM's config.json: {type(error).__name__}: {reason:.200}.",
            "Was the file altered? Fetch it again from where the LLM was published.",
        ) from error


def embeddings(build: Build, files: Tensors) -> torch.Tensor:
    """(V, H), from the checkpoint, else from the base LLM's own weights. Raises: WeightsError."""
    if EMBEDDINGS in files:
        return files.tensor(EMBEDDINGS)
    table = build.weights[BASE_LLM].with_files(WeightsRef.files).tensors().tensor("model.embed_tokens.weight")
    config, file = build.weights[BASE_LLM].config, "base LLM config"
    wanted = [size(config, "vocab_size", file), size(config, "hidden_size", file)]
    if list(table.shape) != wanted:
        raise WeightsError(
            f"The base LLM's model.embed_tokens.weight is {list(table.shape)}; its config says {wanted}.",
            "Are config.json and the weights from the same repository?",
        )
    return table


def place_rope(model: Qwen3ForCausalLM, device: str) -> None:
    """The rotary frequencies are not in any file: compute them outside the meta device."""
    model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config).to(device)


def build(build: Build) -> Qwen3Backend:
    """Factory: on the meta device, filled from the mapped file, then q and v get scaling * B A added."""
    files = open_checkpoint(build)
    config = build.weights[CHECKPOINT].config
    dtype = getattr(torch, build.dtype)
    targets = lora_targets(config)
    table = embeddings(build, files).to(build.device, dtype)
    model = empty_model(build)

    def source(name: str) -> torch.Tensor:
        if llm_name(name) == EMBEDDINGS:
            return table
        return files.tensor(llm_name(name, lora=name.split(".")[-2] in targets))

    assign(model, source, dtype, build.device)
    place_rope(model, build.device)
    # In bfloat16 the product is summed and the base added in float32, then rounded once: the same numbers
    # as merging in float32 and rounding, at half the time and a fraction of the memory.
    exact = dtype if dtype == torch.bfloat16 else torch.float32
    linears = MergedLinears()
    for name, linear in model.named_modules():
        if name.rsplit(".", 1)[-1] in targets:
            base, a, b = (
                files.tensor(part).to(build.device, exact)
                for part in (llm_name(f"{name}.weight", lora=True), *lora_names(name))
            )
            merged = torch.addmm(base, b, a, alpha=lora_scaling(config)).to(dtype)
            linears.merge(linear, merged)
    if build.device == "cpu":
        speed_up_single_rows(model)
    return Qwen3Backend(model, load_tokenizer(build), linears.switch, linears.base_bytes)
