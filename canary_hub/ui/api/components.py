"""The public endpoint `/components`: what is installed here, as data."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...hub import Hub
from ...registry import component_facts, segmenter_facts, stack_facts
from ...specs import ComponentSpec, Contract


def components_endpoint(hub: Hub) -> None:
    """Publish it; nothing is computed, so it waits for no run."""
    found = gr.JSON(label="installed", visible=False)

    def components() -> dict[str, Any]:
        """What is installed here: stacks, components with their contracts and options, and segmenters."""
        return {
            "stacks": [stack_facts(spec) for spec in hub.registry.stacks.values()],
            "components": [component_facts(part, _contract(hub, part)) for part in hub.registry.components.values()],
            "segmenters": [segmenter_facts(spec) for spec in hub.registry.segmenters.values()],
        }

    gr.on(
        [],
        components,
        None,
        found,
        api_name="components",
        api_description=(
            "What is installed here. stacks: a list of {name, title, note, components by stage, weights by role, "
            "window_seconds, segmenter, dtype, chat}; components: a list of {id, stage, title, contract: {accepts: "
            "[port], produces: [port]} or a sentence, build_options and call_options: name -> JSON schema, weights by "
            "role, requires, chat}; segmenters: a list of {id, title, requires}; a port is {kind, dim, rate_hz, "
            "layout, token, tag}, null for anything."
        ),
        queue=False,
    )


def _contract(hub: Hub, part: ComponentSpec) -> Contract | str:
    """What a component accepts and produces, or why it cannot be told; nothing is fetched to find out."""
    if isinstance(part.contract, Contract):
        return part.contract
    if any(ref is None or not (ref.path or ref.config) for ref in part.weights.values()):
        return "Its sizes follow from the weights of the stack it is used in."
    try:
        return hub.contract(part)
    except Exception:  # a plugin's own code; its words may name folders of this machine
        return "Its contract cannot be told; the Registry tab says why."
