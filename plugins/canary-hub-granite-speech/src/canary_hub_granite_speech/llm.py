"""The LLM of Granite Speech with its adapter merged (granite-speech/granite) or live (granite-speech/granite-peft).

transformers' own class never divides by the config's `logits_scaling` (its text-only sibling GraniteForCausalLM
does): the best token is the same, its probability is not. Here the logits are divided. The adapter stands in the same
repository, as adapter_config.json and adapter_model.safetensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open

from canary_hub.errors import WeightsError
from canary_hub.models.causal_lm.backend import AdapterBackend, MergedLinears
from canary_hub.models.families.backend import CausalLM, FamilyTokenizer, load_llm
from canary_hub.models.families.parts import todays_name
from canary_hub.stages import Build, Segment, Text
from canary_hub.weights.checkpoint import Checkpoint
from canary_hub.weights.tensors import read_json

from .components import answer, turn
from .plugin import FAMILY

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


class ScaledHead(torch.nn.Module):
    """Logits divided by `scaling`."""

    def __init__(self, linear: Any, scaling: float) -> None:
        super().__init__()
        self.linear = linear
        self.scaling = scaling

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., H) -> (..., V)."""
        logits: torch.Tensor = self.linear(hidden) / self.scaling
        return logits


class GraniteBackend(AdapterBackend):
    """Granite with a speech adapter that can be switched off."""

    def chat_segments(self, message: str) -> Sequence[Segment]:
        """A user message as a chat prompt without audio."""
        return answer(turn("user", [Text(message)]))


def _load(build: Build) -> tuple[CausalLM, Lora | None]:
    model = load_llm(build, FAMILY)
    model.lm_head = ScaledHead(model.lm_head, float(model.config.logits_scaling))
    return model, load_lora(build, model.model)


def build_merged(build: Build) -> GraniteBackend:
    """Factory of granite-speech/granite: scaling * B A is added at load, and the base weights stay beside (mapped
    from the file), so that the adapter can be switched off."""
    model, lora = _load(build)
    linears = MergedLinears()
    if lora:
        for name, (a, b) in lora.pairs.items():
            linear: Any = model.model.get_submodule(name)
            base = linear.weight
            update = b.to(base.device, torch.float32) @ a.to(base.device, torch.float32)
            linears.merge(linear, (base.float() + lora.scaling * update).to(base.dtype))
    tokenizer = FamilyTokenizer(build.weights[FAMILY.role], FAMILY)
    return GraniteBackend(model, tokenizer, linears.switch, linears.base_bytes)


def build_live(build: Build) -> GraniteBackend:
    """Factory of granite-speech/granite-peft: PEFT's own layers, as transformers runs the model."""
    model, lora = _load(build)
    if lora:
        settings = LoraConfig(
            r=int(lora.config["r"]),
            lora_alpha=lora.config["lora_alpha"],
            use_rslora=bool(lora.config.get("use_rslora")),
            target_modules=list(lora.pairs),
        )
        inject_adapter_in_model(settings, model.model)
        for name, (a, b) in lora.pairs.items():
            layer: Any = model.model.get_submodule(name)
            for half, tensor in ((layer.lora_A, a), (layer.lora_B, b)):
                placed = tensor.to(layer.weight.device, layer.weight.dtype)
                half["default"].weight = torch.nn.Parameter(placed, requires_grad=False)
        model.eval()

    def switch(on: bool) -> None:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.enable_adapters(on)

    return GraniteBackend(model, FamilyTokenizer(build.weights[FAMILY.role], FAMILY), switch)


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
    checkpoint = build.weights[FAMILY.role]
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
