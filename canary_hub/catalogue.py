"""What is installed, as plain data for machines: `--json` on the command line, `/components` on a page.

No paths: weights are named, local folders by their last part.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .specs import ComponentSpec, Contract, Options, SegmenterSpec, StackSpec, Stage


def stack_facts(spec: StackSpec) -> dict[str, Any]:
    """A stack: name, title, note, components by stage, weights by role, window_seconds, segmenter, dtype, chat."""
    return {
        "name": spec.name,
        "title": spec.title,
        "note": spec.note,
        "components": {stage.value: spec.components[stage] for stage in Stage},
        "weights": {role: ref.name for role, ref in spec.weights.items()},
        "window_seconds": spec.window_seconds,
        "segmenter": spec.segmenter,
        "dtype": spec.dtype,
        "chat": spec.chat,
    }


def component_facts(spec: ComponentSpec, contract: Contract | str) -> dict[str, Any]:
    """A component: id, stage, title, contract, build_options, call_options, weights by role, requires, chat.

    Args:
        contract: {"accepts": [port], "produces": [port]} in the end; or why it is not known.
    """
    return {
        "id": spec.id,
        "stage": spec.stage.value,
        "title": spec.title,
        "contract": contract if isinstance(contract, str) else asdict(contract),
        "build_options": option_facts(spec.build_options),
        "call_options": option_facts(spec.call_options),
        "weights": {role: ref.name if ref else None for role, ref in spec.weights.items()},
        "requires": list(spec.requires),
        "chat": spec.chat,
    }


def segmenter_facts(spec: SegmenterSpec) -> dict[str, Any]:
    """A segmenter: id, title, requires; its "stage" is "segmenter", which is none of the five."""
    return {"id": spec.id, "stage": "segmenter", "title": spec.title, "requires": list(spec.requires)}


def option_facts(model: type[Options]) -> dict[str, Any]:
    """Name -> JSON schema of each option: type, default, bounds, description."""
    properties: dict[str, Any] = model.model_json_schema().get("properties", {})
    return properties
