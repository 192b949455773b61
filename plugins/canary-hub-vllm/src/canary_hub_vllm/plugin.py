"""Component vllm/qwen3: the LLM of Canary-Qwen by vLLM."""

from __future__ import annotations

from collections.abc import Iterable

from canary_hub.hookspecs import hookimpl
from canary_hub.models.canary_qwen import ports
from canary_hub.models.canary_qwen.checkpoint import BASE_LLM, CHECKPOINT, PUBLISHED, PUBLISHED_LLM
from canary_hub.specs import ComponentSpec, Stage

from .options import VllmBuild, VllmCall

CANARY_HUB_API = 2


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """One LLM backend, over the weights of canary/qwen3."""
    return [
        ComponentSpec(
            stage=Stage.LLM,
            id="vllm/qwen3",
            title="Qwen3 with LoRA merged, run by vLLM: many segments at once on a GPU; no LLM mode",
            factory="canary_hub_vllm.qwen3:build",
            contract=ports.qwen3,
            weights={CHECKPOINT: PUBLISHED, BASE_LLM: PUBLISHED_LLM},
            build_options=VllmBuild,
            call_options=VllmCall,
            requires=("vllm",),
            install='pip install "vllm>=0.20,<0.33"',
        )
    ]
