"""`mini` as a checkpoint: bf16, the names of nvidia/canary-qwen-2.5b for all that it shares with it.

`embed_tokens.weight` and `llm.base_model.model.*` are as published, LoRA on q and v included. `perception.proj.*` is
the projector. The encoder is a published Whisper, unchanged, so it is named in config.json
(`perception.encoder.frozen`) and not in the file. The LLM was trained in full, not by LoRA; the layout asks for the
adapter's tensors, so q and v are written as W - s B A beside A and B: merged, they are W again up to bf16.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from canary_hub.atomic import beside, write_text
from canary_hub.errors import WeightsError

from ..tokenizer import PLACEHOLDER, take_tokenizer
from .ears import HOP, N_FFT, N_MELS, RATE, STACK
from .model import Mini, Sizes, build

RANK, ALPHA = 8, 16
TARGETS = ("q_proj", "v_proj")
LLM = "llm.base_model.model."
EARS = "whisper-tiny.en"


def checkpoint_config(sizes: Sizes) -> dict[str, Any]:
    """config.json: the keys of the published one, where they mean something here."""
    return {
        "audio_locator_tag": PLACEHOLDER,
        "lora": {"lora_alpha": ALPHA, "r": RANK, "target_modules": list(TARGETS), "task_type": "CAUSAL_LM"},
        "perception": {
            "encoder": {"frozen": EARS, "d_model": sizes.states},
            "modality_adapter": {"stack": STACK, "d_model": STACK * sizes.states, "inner": sizes.projector},
            "output_dim": sizes.hidden,
            "preprocessor": {
                "features": N_MELS,
                "n_fft": N_FFT,
                "sample_rate": RATE,
                "window_size": N_FFT / RATE,
                "window_stride": HOP / RATE,
            },
        },
        "pretrained_llm": "mini",
        "prompt_format": "qwen",
        "torch_dtype": "bfloat16",
    }


def _names(model: Mini) -> dict[str, str]:
    """Name in the file -> name in the model's state dict, LoRA aside."""
    names = {"embed_tokens.weight": "llm.model.embed_tokens.weight"}
    for name in model.state_dict():
        if name.startswith("proj."):
            names[f"perception.{name}"] = name
        elif name.startswith("llm.model.layers.") or name == "llm.model.norm.weight":
            plain = name.removeprefix("llm.")
            wrapped = plain.split(".")[-2] in TARGETS
            names[LLM + (plain.replace(".weight", ".base_layer.weight") if wrapped else plain)] = name
    return names


def checkpoint_tensors(model: Mini, seed: int = 0) -> dict[str, Tensor]:
    """Every tensor of the file."""
    state = model.state_dict()
    random = torch.Generator().manual_seed(seed)
    out = {}
    for name, ours in _names(model).items():
        weight = state[ours].detach().float().cpu()
        if name.endswith(".base_layer.weight"):
            linear = name.removesuffix(".base_layer.weight")
            a = torch.randn(RANK, weight.shape[1], generator=random) / weight.shape[1] ** 0.5
            b = torch.randn(weight.shape[0], RANK, generator=random) * float(weight.std()) * 0.05
            a, b = a.to(torch.bfloat16), b.to(torch.bfloat16)  # the base makes up for their rounding
            out[f"{linear}.lora_A.default.weight"], out[f"{linear}.lora_B.default.weight"] = a, b
            weight = weight - ALPHA / RANK * b.float() @ a.float()
        out[name] = weight.to(torch.bfloat16).contiguous()
    return out


def export(model: Mini, tokenizer: Path, out: Path) -> Path:
    """Writes config.json, model.safetensors and llm/ (config and tokenizer) to `out`; returns it."""
    write_text(out / "config.json", json.dumps(checkpoint_config(model.sizes), indent=1) + "\n")
    llm = model.sizes.llm_config().to_dict() | {"architectures": ["Qwen3ForCausalLM"], "torch_dtype": "bfloat16"}
    write_text(out / "llm" / "config.json", json.dumps(llm, indent=1) + "\n")
    take_tokenizer(tokenizer, out / "llm")
    with beside(out / "model.safetensors") as part:  # last: a folder that has it has everything
        save_file(checkpoint_tensors(model), part, metadata={"format": "pt"})
    return out


def load_exported(folder: Path) -> Mini:
    """The model of the written files, LoRA merged, in float32: what a user gets.

    Raises: WeightsError when a tensor is missing.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    llm = json.loads((folder / "llm" / "config.json").read_text("utf-8"))
    adapter = config["perception"]["modality_adapter"]
    sizes = Sizes(
        llm["vocab_size"],
        llm["hidden_size"],
        llm["num_hidden_layers"],
        llm["num_attention_heads"],
        llm["num_key_value_heads"],
        llm["head_dim"],
        llm["intermediate_size"],
        config["perception"]["encoder"]["d_model"],
        adapter["inner"],
    )
    model = build(sizes)
    tensors = load_file(folder / "model.safetensors")
    state = model.state_dict()
    for name, ours in _names(model).items():
        if name not in tensors:
            raise WeightsError(f"{folder} lacks the tensor {name}.")
        weight = tensors[name].float()
        if name.endswith(".base_layer.weight"):
            linear = name.removesuffix(".base_layer.weight")
            a, b = (tensors[f"{linear}.lora_{letter}.default.weight"].float() for letter in "AB")
            weight = weight + config["lora"]["lora_alpha"] / config["lora"]["r"] * b @ a
        state[ours] = weight
    state["llm.lm_head.weight"] = state["llm.model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model.eval()
