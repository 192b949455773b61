"""The components: LLM backend and encoder of Canary-Qwen through OpenVINO."""

from __future__ import annotations

from collections.abc import Iterable

from canary_hub.hookspecs import hookimpl
from canary_hub.models.canary_qwen import ports
from canary_hub.models.canary_qwen.checkpoint import BASE_LLM, CHECKPOINT, PUBLISHED, PUBLISHED_LLM
from canary_hub.models.canary_qwen.options import Qwen3Call
from canary_hub.specs import ComponentSpec, Stage

CANARY_HUB_API = 2

_HERE = "canary_hub_openvino"
_INSTALL = "pip install ./plugins/canary-hub-openvino"


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """They read the weights of canary/qwen3 and canary/fastconformer, and keep their contracts."""
    weights = {CHECKPOINT: PUBLISHED, BASE_LLM: PUBLISHED_LLM}
    return [
        ComponentSpec(
            stage=Stage.ENCODER,
            id="openvino/fastconformer",
            title="FastConformer through OpenVINO, on the CPU",
            factory=f"{_HERE}.fastconformer:build",
            contract=ports.fastconformer,
            weights=weights,
            requires=("openvino",),
            install=_INSTALL,
        ),
        ComponentSpec(
            stage=Stage.LLM,
            id="openvino/qwen3",
            title="Qwen3 with LoRA live through OpenVINO, on the CPU",
            factory=f"{_HERE}.qwen3:build",
            contract=ports.qwen3,
            weights=weights,
            call_options=Qwen3Call,
            requires=("openvino",),
            install=_INSTALL,
            chat=True,
        ),
        ComponentSpec(
            stage=Stage.LLM,
            id="openvino/qwen3-int8",
            title="Qwen3 through OpenVINO with int8 weights (NNCF), on the CPU: half the memory, faster tokens",
            factory=f"{_HERE}.qwen3:build_int8",
            contract=ports.qwen3,
            weights=weights,
            call_options=Qwen3Call,
            requires=("openvino", "nncf"),
            install=_INSTALL,
            chat=True,
        ),
    ]
