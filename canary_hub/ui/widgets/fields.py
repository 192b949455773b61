"""Options of a component as form fields, drawn from its pydantic schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic.fields import FieldInfo

from ...errors import OptionError
from ...specs import ComponentSpec, Options


@dataclass(frozen=True)
class Field:
    """One option on the page: `name` within its component, and the gradio component that edits it."""

    name: str
    kind: str
    optional: bool
    widget: Any

    def read(self, value: Any) -> Any:
        """What the visitor entered, as the option's value. Raises: OptionError."""
        if value is None or (value == "" and self.optional):
            return None
        if self.kind == "json":
            try:
                return json.loads(value)
            except ValueError as error:
                raise OptionError(f"{self.name} is no JSON: {error}.", 'For example [1, 2] or {"a": 1}.') from error
        return int(value) if self.kind == "integer" else value

    def show(self, value: Any) -> Any:
        """An option's value as its widget takes it."""
        value = getattr(value, "value", value)  # an enum's member
        return json.dumps(value) if self.kind == "json" else value


def default_of(option: FieldInfo) -> Any:
    """An option's default; None for one that has to be given."""
    return None if option.is_required() else option.get_default(call_default_factory=True)


def draw(spec: ComponentSpec, which: type[Options], values: Mapping[str, Any]) -> list[Field]:
    """Fields for every option of the model `which` of a component, starting from `values`."""
    schema = which.model_json_schema()
    fields = []
    for name, described in schema.get("properties", {}).items():
        inner, optional = _inner(described, schema.get("$defs", {}))
        kind = _kind(inner)
        field = Field(name, kind, optional, None)
        start = values.get(name, default_of(which.model_fields[name]))
        settings = {
            "label": name.replace("_", " ").capitalize(),
            "info": described.get("description"),
            "value": field.show(start),
            "elem_id": f"option-{spec.id.replace('/', '-')}-{name}",
        }
        empty = optional or which.model_fields[name].is_required()  # nothing entered: null, or not given
        fields.append(Field(name, kind, empty, _widget(kind, inner, optional, settings)))
    return fields


def _inner(described: Mapping[str, Any], defs: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The schema behind references and "or null", and whether null is allowed."""
    found = dict(described)
    optional = False
    if "anyOf" in found:
        kinds = [kind for kind in found["anyOf"] if kind.get("type") != "null"]
        optional = len(kinds) < len(found["anyOf"])
        found = {**found, **kinds[0]} if len(kinds) == 1 else {**found, "type": "any"}
    for reference in [found, *found.get("allOf", ())]:
        if "$ref" in reference:
            found = {**found, **defs.get(reference["$ref"].rsplit("/", 1)[-1], {})}
    return found, optional


def _kind(schema: Mapping[str, Any]) -> str:
    if "const" in schema or "enum" in schema:
        return "enum"
    kind = schema.get("type")
    return kind if kind in ("boolean", "integer", "number", "string") else "json"


def _widget(kind: str, schema: Mapping[str, Any], optional: bool, settings: dict[str, Any]) -> Any:
    low, high = schema.get("minimum"), schema.get("maximum")
    if kind == "boolean":
        return gr.Checkbox(**settings)
    if kind == "enum":
        values = [(str(value), value) for value in schema.get("enum", [schema.get("const")])]
        return gr.Dropdown([("(none)", ""), *values] if optional else values, **settings)
    if kind in ("integer", "number") and low is not None and high is not None and not optional:
        step = 1 if kind == "integer" else _step(high - low)
        return gr.Slider(low, high, step=step, buttons=[], **settings)
    if kind in ("integer", "number"):
        return gr.Number(precision=0 if kind == "integer" else None, minimum=low, maximum=high, **settings)
    if kind == "string":
        return gr.Textbox(max_length=schema.get("maxLength"), lines=1, max_lines=6, **settings)
    return gr.Textbox(max_lines=6, **settings)


def _step(span: float) -> float:
    """A round step that divides a range into about a hundred."""
    step = 1.0
    while step > span / 50 and step > 1e-6:
        step /= 10
    return step if step < 1 else 1.0
