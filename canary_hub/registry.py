"""What is installed: the frozen look-up of components, stacks and segmenters, and the same as plain data.

The plain data is what `--json` prints and what `/components` of a page gives. It holds no paths: weights are named,
local folders by their last part.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from .errors import UnknownNameError
from .plugins import PluginRecord
from .specs import ComponentSpec, Contract, Options, SegmenterSpec, StackSpec, Stage


class Registry:
    """Components and segmenters by id, stacks by name; nothing can be added after it is built."""

    def __init__(self, records: Iterable[PluginRecord]) -> None:
        used = [record for record in records if record.ok]
        self.components: Mapping[str, ComponentSpec] = MappingProxyType(
            {spec.id: spec for record in used for spec in record.components}
        )
        self.stacks: Mapping[str, StackSpec] = MappingProxyType(
            {spec.name: spec for record in used for spec in record.stacks}
        )
        self.segmenters: Mapping[str, SegmenterSpec] = MappingProxyType(
            {spec.id: spec for record in used for spec in record.segmenters}
        )

    def of(self, stage: Stage) -> tuple[ComponentSpec, ...]:
        """All components of one stage, in registration order."""
        return tuple(spec for spec in self.components.values() if spec.stage is stage)

    def component(self, id: str, stage: Stage | None = None) -> ComponentSpec:
        """The component of that id. Raises: UnknownNameError with the nearest ids, or with the
        stage it belongs to when that is another one than asked for."""
        spec = self.components.get(id)
        if spec is None:
            pool = [s.id for s in (self.of(stage) if stage else self.components.values())]
            raise _unknown("component", id, pool, "canary-hub components")
        if stage is not None and spec.stage is not stage:
            raise UnknownNameError(
                f"{id} is a component of stage {spec.stage}, not of {stage}.",
                f"For {stage} there are: {', '.join(s.id for s in self.of(stage)) or 'none'}.",
            )
        return spec

    def stack(self, name: str) -> StackSpec:
        """The stack of that name. Raises: UnknownNameError with the nearest names."""
        if name not in self.stacks:
            raise _unknown("stack", name, list(self.stacks), "canary-hub stacks")
        return self.stacks[name]

    def segmenter(self, id: str) -> SegmenterSpec:
        """The segmenter of that id. Raises: UnknownNameError with the nearest ids."""
        if id not in self.segmenters:
            raise _unknown("segmenter", id, list(self.segmenters), "canary-hub components segmenter")
        return self.segmenters[id]


def _unknown(what: str, name: str, pool: list[str], listing: str) -> UnknownNameError:
    near = difflib.get_close_matches(name, pool, n=3, cutoff=0.5)
    # An id is often given without its namespace: "linear" for "canary/linear".
    near += [known for known in pool if name and name in known and known not in near][:3]
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return UnknownNameError(f"There is no {what} {name!r}.", f"{hint}`{listing}` lists them all.")


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
