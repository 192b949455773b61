"""Canary-Qwen 2.5B as two CPU cores run it best: the LLM's weights in int8 while it writes."""

from dataclasses import replace

from canary_hub.hookspecs import hookimpl
from canary_hub.models.canary_qwen import plugin as canary_qwen
from canary_hub.specs import Stage

CANARY_HUB_API = 2


@hookimpl
def canary_stacks():
    """The published stack with another LLM backend."""
    (stack,) = canary_qwen.canary_stacks()
    return [
        replace(
            stack,
            name="canary-qwen-2.5b-int8",
            title="Canary-Qwen 2.5B, int8",
            note="NVIDIA's English recogniser, with int8 weights for the CPU.",
            components={**stack.components, Stage.LLM: "canary/qwen3-int8"},
        )
    ]
