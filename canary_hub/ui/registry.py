"""The tab that shows what is installed: stacks, components by stage, plugins, and how to add one."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import gradio as gr

from ..contracts import describe
from ..errors import HubError
from ..hub import Hub
from ..lanes import Lane
from ..specs import ComponentSpec, Contract, StackSpec, Stage
from .widgets.picker import LABELS, fit
from .widgets.templates import render

HOW_TO = """from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Port, Stage

@hookimpl
def canary_components():
    ports = Contract((Port("hidden", dim=1024),), (Port("embeds", dim=2048),))
    return [ComponentSpec(Stage.PROJECTOR, "me/mlp", f"{__name__}:build", ports)]

def build(build):  # build.options, .weights, .dtype, .device
    return MyProjector()  # called with hidden (B, N, D), lengths (B,); returns embeds (B, M, H), lengths
"""


def registry_tab(hub: Hub) -> None:
    """Draw it once: the registry does not change while the page runs."""
    gr.HTML(
        render(
            "registry.html",
            stacks=[_stack(hub, spec) for spec in hub.registry.stacks.values()],
            stages=[(*LABELS[stage], [_component(hub, part) for part in hub.registry.of(stage)]) for stage in Stage],
            segmenters=hub.registry.segmenters.values(),
            plugins=[(record, _origin(record.origin)) for record in hub.records],
            how_to=HOW_TO,
        )
    )


def _stack(hub: Hub, spec: StackSpec) -> dict[str, Any]:
    problems, warnings = fit(hub, Lane(spec.name))
    stages = [(LABELS[stage][0], spec.components[stage]) for stage in Stage]
    return {"spec": spec, "stages": stages, "problems": problems, "warnings": warnings}


def _component(hub: Hub, part: ComponentSpec) -> dict[str, Any]:
    """A component with its options, and what it accepts and produces where nothing is fetched to find out."""
    known = [ref for ref in part.weights.values() if ref is not None and (ref.path or ref.config)]
    contract, problem = None, ""
    if isinstance(part.contract, Contract) or len(known) == len(part.weights):
        try:
            found = hub.contract(part)
            contract = {side: [describe(port) for port in getattr(found, side)] for side in ("accepts", "produces")}
        except HubError as error:
            problem = str(error)
    return {"spec": part, "contract": contract, "problem": problem, "options": _options(part)}


def _options(part: ComponentSpec) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "default": "required" if found.is_required() else repr(found.get_default(call_default_factory=True)),
            "kind": getattr(found.annotation, "__name__", str(found.annotation)),
            "bounds": ", ".join(str(bound) for bound in found.metadata),
            "meaning": found.description or "",
            "builds": model is part.build_options,
        }
        for model in (part.build_options, part.call_options)
        for name, found in model.model_fields.items()
    ]


def _origin(origin: str) -> str:
    """Where a plugin comes from, without the folders of this machine."""
    return PurePath(origin).name if origin.startswith("/") else origin
