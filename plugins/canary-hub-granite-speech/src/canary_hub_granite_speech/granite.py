"""The LLM of Granite Speech: component granite-speech/granite with the adapter merged, granite-speech/granite-peft
with the adapter live.

transformers' own class never divides by the config's `logits_scaling` (its text-only sibling GraniteForCausalLM
does): the best token is the same, its probability is not. Here the logits are divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer

from canary_hub.models.causal_lm.backend import AdapterBackend, MergedLinears
from canary_hub.models.families.backend import CausalLM, FamilyTokenizer, load_llm
from canary_hub.stages import Build, Segment, Text

from .family import FAMILY, ROLE
from .lora import Lora, load_lora
from .prompts import answer, turn


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
    tokenizer = FamilyTokenizer(build.weights[ROLE], FAMILY)
    return GraniteBackend(model, tokenizer, linears.switch, linears.base_bytes)


def build_peft(build: Build) -> GraniteBackend:
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

    return GraniteBackend(model, FamilyTokenizer(build.weights[ROLE], FAMILY), switch)
