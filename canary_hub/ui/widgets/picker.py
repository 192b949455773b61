"""Which stack runs: the stack picker, the five components and their options, and whether they fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ...errors import HubError, OptionError, explain
from ...hub import Hub
from ...lanes import Lane
from ...options import build_and_call
from ...run.figures import size
from ...specs import ComponentSpec, StackSpec, Stage
from . import fields
from .events import PICKED
from .html import note
from .templates import render

LABELS = {
    Stage.PREPROCESSOR: ("Preprocessor", "Waveform to log-mel features"),
    Stage.ENCODER: ("Encoder", "Features to hidden vectors"),
    Stage.PROJECTOR: ("Projector", "Hidden vectors into the LLM's space"),
    Stage.PROMPT_TEMPLATE: ("Prompt template", "The words around the audio"),
    Stage.LLM: ("LLM backend", "Writes the text"),
}


@dataclass
class Panel:
    """The fields of one component, shown while it is chosen."""

    spec: ComponentSpec
    group: gr.Column
    fields: list[fields.Field]


@dataclass
class Picker:
    """The widgets, and how their values make a `Lane`.

    parts_of: hidden; the stack whose parts are shown. A stack that was just picked comes before its parts, which the
        server has to send first: until then those shown are another stack's, and not meant.
    """

    hub: Hub
    stack: gr.Dropdown
    parts_of: gr.Textbox
    note: gr.HTML
    components: dict[Stage, gr.Dropdown] = field(default_factory=dict)
    fit: Any = None
    segmenter: gr.Dropdown | None = None
    panels: list[Panel] = field(default_factory=list)

    @property
    def inputs(self) -> list[Any]:
        """What an event has to be given for `lane`, in its order."""
        return [*self.parts, *self.widgets]

    @property
    def parts(self) -> list[Any]:
        """The stack, whose parts are shown, its five components, and the segmenter where there is a choice."""
        return [self.stack, self.parts_of, *self.components.values(), *([self.segmenter] if self.segmenter else [])]

    @property
    def widgets(self) -> list[Any]:
        """The widgets of all options of all components."""
        return [option.widget for panel in self.panels for option in panel.fields]

    def lane(self, values: Sequence[Any]) -> Lane:
        """The values of `inputs` as a lane that says only what differs from the stack. Raises: OptionError."""
        picked = self._picked(values)
        own = self.hub.registry.stack(picked.stack)
        entered = iter(values[len(self.parts) :])
        changed: dict[str, Any] = {}
        names: list[str] = []
        for panel in self.panels:
            found = [next(entered) for _ in panel.fields]
            if picked.components.get(panel.spec.stage) != panel.spec.id:
                continue
            names += [option.name for option in panel.fields]
            for option, value, usual in zip(panel.fields, found, _values(own, panel), strict=True):
                if (new := option.read(value)) != option.read(option.show(usual)):
                    changed[f"{panel.spec.stage.value}.{option.name}"] = new
        options = {}
        for name, value in changed.items():
            plain = name.partition(".")[2]
            options[plain if names.count(plain) == 1 else name] = value
        swapped = {stage: id for stage, id in picked.components.items() if id != own.components[stage]}
        segmenter = picked.segmenter if picked.segmenter != own.segmenter else None
        return Lane(picked.stack, swapped, options, segmenter=segmenter)

    def _picked(self, values: Sequence[Any]) -> Lane:
        """Stack, components and segmenter from values that begin with those of `parts`, the stack's own included."""
        stack, parts_of, *ids = values[: len(self.parts)]
        if stack != parts_of:
            return Lane(stack)
        segmenter = ids.pop() if self.segmenter else None
        components = {stage: id for stage, id in zip(self.components, ids, strict=True) if id}
        return Lane(stack, components, segmenter=segmenter)

    @property
    def outputs(self) -> list[Any]:
        """What `show` gives values for."""
        groups = [panel.group for panel in self.panels]
        return [self.stack, self.note, self.fit, *self.parts[1:], *groups, *self.widgets]

    def show(self, lane: Lane) -> list[Any]:
        """Everything as a lane says. Raises: HubError for one that this hub does not know."""
        spec = self.hub.stack(lane)
        values = [
            gr.update(value=option.show(value))
            for panel in self.panels
            for option, value in zip(panel.fields, _values(spec, panel), strict=True)
        ]
        shown = [gr.update(visible=self.chosen(spec.components, panel)) for panel in self.panels]
        dropdowns = [spec.components[stage] for stage in self.components]
        if self.segmenter:
            dropdowns.append(spec.segmenter)
        fit = fit_note(self.hub, Lane(lane.stack, lane.components, segmenter=lane.segmenter))
        return [lane.stack, stack_note(self.hub, spec), fit, lane.stack, *dropdowns, *shown, *values]

    def listen(self) -> None:
        """Keep everything in step with the stack and the components picked."""
        groups = [panel.group for panel in self.panels]
        self.stack.input(lambda name: self.show(Lane(name))[1:], [self.stack], self.outputs[1:], **PICKED)
        for dropdown in self.parts[2:]:
            dropdown.input(self._part_picked, self.parts, [self.fit, *groups], **PICKED)

    def _part_picked(self, *values: str) -> list[Any]:
        picked = self._picked(values)
        if not picked.components:  # another stack's are on their way
            return [gr.skip()] * (1 + len(self.panels))
        shown = [gr.update(visible=self.chosen(picked.components, panel)) for panel in self.panels]
        return [fit_note(self.hub, picked), *shown]

    def chosen(self, components: Mapping[Stage, str], panel: Panel) -> bool:
        """Whether a panel's component is picked, and has options to show."""
        return components.get(panel.spec.stage) == panel.spec.id and bool(panel.fields)


def stack_picker(hub: Hub, first: str) -> Picker:
    """Draw the stack dropdown and the line under it."""
    choices = [(spec.title or spec.name, spec.name) for spec in hub.registry.stacks.values()]
    stack = gr.Dropdown(choices, value=first, label="Stack", filterable=len(choices) > 8, elem_id="stack")
    parts_of = gr.Textbox(first, visible=False)
    note = gr.HTML(stack_note(hub, hub.registry.stack(first)), elem_id="stack-note")
    return Picker(hub, stack, parts_of, note)


def component_pickers(picker: Picker, first: str) -> None:
    """Draw the five stages as dropdowns, and under each the options of what is chosen; then the segmenter, where
    there is more than one."""
    spec = picker.hub.registry.stack(first)
    picker.fit = gr.HTML(fit_note(picker.hub, Lane(first)), elem_id="fit")
    for stage, (label, info) in LABELS.items():
        choices = [(part.id, part.id) for part in picker.hub.registry.of(stage)]
        with gr.Group():
            picker.components[stage] = gr.Dropdown(
                choices,
                value=spec.components[stage],
                label=label,
                info=info,
                filterable=False,
                elem_id=f"stage-{stage.value}",
            )
            if stage is not Stage.PROMPT_TEMPLATE:
                _panels(picker, spec, stage)
    if len(picker.hub.registry.segmenters) > 1:
        picker.segmenter = gr.Dropdown(
            list(picker.hub.registry.segmenters),
            value=spec.segmenter,
            label="Segmenter",
            info="Finds the pauses at which long audio is cut",
            filterable=False,
            elem_id="segmenter",
        )


def prompt_fields(picker: Picker, first: str) -> None:
    """Draw the options of the prompt template: what stands around the audio."""
    _panels(picker, picker.hub.registry.stack(first), Stage.PROMPT_TEMPLATE)


def _panels(picker: Picker, stack: StackSpec, stage: Stage) -> None:
    for part in picker.hub.registry.of(stage):
        values = dict(stack.options.get(stage, {})) if stack.components[stage] == part.id else {}
        models = [model for model in (part.build_options, part.call_options) if model.model_fields]
        with gr.Column(visible=bool(models) and stack.components[stage] == part.id, elem_classes="ch-options") as group:
            drawn = [option for model in models for option in fields.draw(part, model, values)]
        picker.panels.append(Panel(part, group, drawn))


def _values(stack: StackSpec, panel: Panel) -> Iterator[Any]:
    """A panel's values in a stack, in the order of its fields: what the stack sets, else the defaults."""
    part = panel.spec
    own = stack.options.get(part.stage, {}) if stack.components[part.stage] == part.id else {}
    set_to = dict(own)
    with suppress(OptionError):  # the line under the stack says what is wrong
        for model in build_and_call(part, own) if own else ():
            set_to |= {name: getattr(model, name) for name in type(model).model_fields}
    known = {**part.build_options.model_fields, **part.call_options.model_fields}
    for option in panel.fields:
        yield set_to.get(option.name, fields.default_of(known[option.name]))


def stack_note(hub: Hub, spec: StackSpec) -> str:
    """What a stack is for, and whether it has to be downloaded first."""
    try:
        missing = hub.assemble(spec).missing
    except HubError as error:
        return note(spec.note, warning=error.message)
    if missing:
        gib = sum(ref.gib or 0 for ref in missing)
        much = f"{size(gib * 2**30)}" if gib else "its weights"
        state = f"Not on this machine yet: the first run downloads {much}."
    else:
        state = "Ready on this machine."
    return note(spec.note, quiet=state)


def fit_note(hub: Hub, lane: Lane) -> str:
    """Whether the five fit together, in words: problems, warnings, or that they do."""
    problems, warnings = fit(hub, lane)
    return render("fit.html", problems=problems, warnings=warnings)


def fit(hub: Hub, lane: Lane) -> tuple[Sequence[str], Sequence[str]]:
    """What keeps the five from running together, and what is to be known where they do."""
    try:
        found = hub.check(lane)
    except Exception as error:
        return (" ".join(explain(error)),), ()
    return found.problems, found.warnings
