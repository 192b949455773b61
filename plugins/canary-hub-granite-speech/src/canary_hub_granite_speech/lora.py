"""The speech adapter of a Granite Speech repository: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open

from canary_hub.errors import WeightsError
from canary_hub.models.families.parts import read_json, todays_name
from canary_hub.stages import Build
from canary_hub.weights.checkpoint import Checkpoint

from .family import FAMILY, ROLE

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."  # PEFT's, in front of the model's own names

# Variants of PEFT's LoRA that are not computed here.
_ONLY: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "fan_in_fan_out": (False,),
    "modules_to_save": ([], None),
}


@dataclass(frozen=True)
class Lora:
    """The update `scaling * B @ A` of some linears.

    pairs: a linear's name in the LLM, such as "layers.0.self_attn.q_proj" -> A (r, in) and B (out, r), mapped.
    """

    config: dict[str, Any]
    scaling: float
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]


def load_lora(build: Build, llm: torch.nn.Module) -> Lora | None:
    """The repository's adapter, every tensor of it accounted for; None where config.json says that there is none.

    Raises: WeightsError for tensors that belong to no linear of the LLM, or a kind of LoRA not computed here.
    """
    checkpoint = build.weights[ROLE]
    if not checkpoint.config.get("has_lora_adapter", True):
        return None
    config = read_json(checkpoint.file(CONFIG))
    for key, values in _ONLY.items():
        if config.get(key, values[0]) not in values:
            raise WeightsError(
                f"{CONFIG} asks for {key} = {config[key]!r}; granite-speech computes {values[0]!r} only.",
                "Merge the adapter with PEFT first.",
            )
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{CONFIG} has no usable r and lora_alpha.", "Fetch the file again.") from error
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Lora(config, scaling, _pairs(checkpoint, llm))


def _pairs(checkpoint: Checkpoint, llm: torch.nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    linears = {name: module for name, module in llm.named_modules() if isinstance(module, torch.nn.Linear)}
    halves: dict[str, dict[str, torch.Tensor]] = {}
    unknown = []
    with safe_open(str(checkpoint.file(TENSORS)), framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (it is no mapping)
            path = todays_name(name.removeprefix(_PREFIX)).removeprefix(f"{FAMILY.llm}.")
            linear, _, half = path.removesuffix(".weight").rpartition(".")
            if linear in linears and half in ("lora_A", "lora_B"):
                halves.setdefault(linear, {})[half] = file.get_tensor(name)
            else:
                unknown.append(name)
    pairs = {linear: (found.get("lora_A"), found.get("lora_B")) for linear, found in halves.items()}
    wrong = [name for name, (a, b) in pairs.items() if a is None or b is None or _misfits(linears[name], a, b)]
    if unknown or wrong or not pairs:
        raise WeightsError(
            f"{TENSORS} does not fit the LLM: {len(unknown)} unknown ({', '.join(unknown[:3])}), "
            f"{len(wrong)} incomplete or wrongly shaped ({', '.join(wrong[:3])}), {len(pairs)} in all.",
            "The adapter and the model must come from the same repository.",
        )
    return {name: (a, b) for name, (a, b) in pairs.items() if a is not None and b is not None}


def _misfits(linear: torch.nn.Linear, a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape[1] != linear.in_features or b.shape[0] != linear.out_features or a.shape[0] != b.shape[1]
