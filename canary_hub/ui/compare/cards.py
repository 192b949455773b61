"""The lane cards of the Compare tab: two to four, each a stack with any of its parts replaced."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import gradio as gr

from ...compare import MAX_LANES, MIN_LANES
from ...errors import HubError
from ...hub import Hub
from ...lanes import Lane
from ...options import DTYPES
from ...specs import Stage
from ..widgets.events import PICKED, QUIET
from ..widgets.picker import LABELS, fit, stack_note
from ..widgets.templates import render
from .forms import PRESETS, PROMPT, PROMPT_AUDIO, LaneForm, known_options, numbered, preset


class Card:
    """The widgets of one lane; `parts_of` is hidden, as in picker.py."""

    def __init__(self, hub: Hub, number: int, form: LaneForm, shown: bool) -> None:
        self.number = number
        stacks = [(spec.title or spec.name, spec.name) for spec in hub.registry.stacks.values()]
        name = f"lane-{number}"
        with gr.Column(visible=shown, min_width=200, elem_id=name, elem_classes="ch-lanecard") as self.column:
            with gr.Row(elem_classes="ch-lanehead"):
                gr.HTML(render("compare/card_heading.html", number=number), js_on_load=_grouped(number))
                self.remove = gr.Button(
                    "Remove", size="sm", min_width=60, scale=0, interactive=False, elem_id=f"{name}-remove"
                )
            self.stack = gr.Dropdown(
                stacks, value=form.stack, label="Stack", filterable=len(stacks) > 8, elem_id=f"{name}-stack"
            )
            self.parts_of = gr.Textbox(form.stack, visible=False)
            with gr.Accordion("Parts", open=False, elem_id=f"{name}-parts") as self.parts:
                self.components = {
                    stage: gr.Dropdown(
                        [(part.id, part.id) for part in hub.registry.of(stage)],
                        value=form.components[stage],
                        label=label,
                        filterable=False,
                        elem_id=f"{name}-{stage.value}",
                    )
                    for stage, (label, _) in LABELS.items()
                }
                self.dtype = gr.Dropdown(
                    [("The stack's own", ""), *((dtype, dtype) for dtype in DTYPES)],
                    value=form.dtype,
                    label="dtype",
                    filterable=False,
                    elem_id=f"{name}-dtype",
                )
                self.typed = gr.Textbox(
                    value=form.typed,
                    label="Options",
                    placeholder="name=value",
                    lines=1,
                    max_lines=4,
                    elem_id=f"{name}-options",
                )
                self.hint = gr.HTML(hint(hub, form), elem_id=f"{name}-hint")
            self.note = gr.HTML(note(hub, form), elem_id=f"{name}-note")
            self.line = gr.Textbox(
                value=line(hub, form),
                label="The lane as one line",
                lines=1,
                max_lines=4,
                interactive=False,
                buttons=["copy"],
                elem_id=f"{name}-line",
            )
            self.duplicate = gr.Button("Duplicate and change", size="sm", min_width=60, elem_id=f"{name}-duplicate")

    @property
    def inputs(self) -> list[Any]:
        """What makes its form."""
        return [self.stack, self.parts_of, *self.components.values(), self.dtype, self.typed]

    @property
    def derived(self) -> list[Any]:
        """What follows from the form."""
        return [self.hint, self.note, self.line]


class Cards:
    """All of them, and the presets that fill them. The hidden ones wait for their turn."""

    def __init__(self, hub: Hub, first: str) -> None:
        self.hub = hub
        forms = [LaneForm.of(hub, Lane(first)), _second(hub, first)]
        forms += [forms[0]] * (MAX_LANES - len(forms))
        self.count = gr.State(MIN_LANES)
        with gr.Row(elem_classes="ch-buttons ch-presets"):
            gr.HTML(render("compare/presets.html"))
            self.presets = [
                gr.Button(name, size="sm", min_width=60, scale=0, elem_id=f"preset-{i}")
                for i, name in enumerate(PRESETS, 1)
                if preset(hub, name, first)
            ]
        with gr.Row(elem_id="lanes"):
            self.cards = [Card(hub, i + 1, form, i < MIN_LANES) for i, form in enumerate(forms)]

    @property
    def inputs(self) -> list[Any]:
        """What an event has to be given for `lanes`, in its order."""
        return [self.count, *(widget for card in self.cards for widget in card.inputs)]

    @property
    def outputs(self) -> list[Any]:
        """What `show` gives values for."""
        everything: list[Any] = [self.count]
        for card in self.cards:
            everything += [card.column, card.parts, card.duplicate, card.remove, *card.inputs, *card.derived]
        return everything

    def lanes(self, values: Sequence[Any]) -> list[Lane]:
        """The values of `inputs` as lanes. Raises: HubError that names the lane."""
        return numbered(self.hub, self._forms(values))

    def show(self, forms: Sequence[LaneForm], opened: int | None = None) -> list[Any]:
        """Everything on the cards; `opened` is the one whose parts are shown."""
        updates: list[Any] = [len(forms)]
        for i, card in enumerate(self.cards):
            if i >= len(forms):
                same = [gr.skip()] * (len(card.inputs) + len(card.derived))
                updates += [gr.update(visible=False), gr.update(open=False), gr.skip(), gr.skip(), *same]
                continue
            updates += [
                gr.update(visible=True),
                gr.update(open=True) if i == opened else gr.skip(),
                gr.update(interactive=len(forms) < MAX_LANES),
                gr.update(interactive=len(forms) > MIN_LANES),
                *_values(forms[i]),
                *self._derived(forms[i]),
            ]
        return updates

    def listen(self) -> None:
        """Keep notes and lines in step with what is picked, and the cards with the buttons."""
        everything = self.outputs
        for i, card in enumerate(self.cards):
            card.stack.input(self._stack_picked, [card.stack], [*card.inputs[1:], *card.derived], **PICKED)
            for picked in (*card.components.values(), card.dtype):
                picked.input(self._picked, card.inputs, card.derived, **PICKED)
            for typed in (card.typed.submit, card.typed.blur):
                typed(self._typed, card.inputs, [*card.inputs, *card.derived], **QUIET)
            copied = card.duplicate.click(self._duplicate(i), self.inputs, everything, **QUIET)
            copied.then(None, [self.count], None, js=TO_THE_NEW_CARD, **QUIET)
            card.remove.click(self._remove(i), self.inputs, everything, **QUIET)
        for button in self.presets:
            button.click(self._preset(button.value), [self.cards[0].stack], everything, **QUIET)

    def _forms(self, values: Sequence[Any]) -> list[LaneForm]:
        count, rest = values[0], values[1:]
        width = len(self.cards[0].inputs)
        return [self._form(rest[i * width : (i + 1) * width]) for i in range(count)]

    def _form(self, values: Sequence[Any]) -> LaneForm:
        """From the values of `Card.inputs`."""
        stack, parts_of, *components, dtype, typed = values
        if stack != parts_of:
            return LaneForm.of(self.hub, Lane(stack))
        return LaneForm(stack, dict(zip(LABELS, components, strict=True)), dtype or "", typed or "")

    def _stack_picked(self, stack: str) -> list[Any]:
        form = LaneForm.of(self.hub, Lane(stack))
        return [*_values(form)[1:], *self._derived(form)]

    def _picked(self, *values: Any) -> list[Any]:
        return self._derived(self._form(values))

    def _typed(self, *values: Any) -> list[Any]:
        """Components, a dtype or a whole lane that were typed among the options move to their own fields."""
        form = self._form(values)
        with suppress(HubError):  # the note says what is wrong with it
            form = LaneForm.of(self.hub, form.lane(self.hub))
        fields = [gr.skip() if new == old else new for new, old in zip(_values(form), values, strict=True)]
        return [*fields, *self._derived(form)]

    def _derived(self, form: LaneForm) -> list[Any]:
        return [hint(self.hub, form), note(self.hub, form), line(self.hub, form)]

    def _duplicate(self, at: int) -> Any:
        def duplicate(*values: Any) -> list[Any]:
            forms = self._forms(values)
            return self.show([*forms, forms[at]][:MAX_LANES], opened=len(forms))

        return duplicate

    def _remove(self, at: int) -> Any:
        def remove(*values: Any) -> list[Any]:
            forms = self._forms(values)
            return self.show([*forms[:at], *forms[at + 1 :]] if len(forms) > MIN_LANES else forms)

        return remove

    def _preset(self, name: str) -> Any:
        return lambda stack: self.show(preset(self.hub, name, stack))


TO_THE_NEW_CARD = """(count) => setTimeout(
  () => document.querySelector(`#lane-${count}`)?.scrollIntoView({behavior: "smooth", block: "nearest"}), 200)"""
"""Runs in the browser alone: on a phone the copy is below the screen."""


def _grouped(number: int) -> str:
    """Script that makes a card a group with a name, for screen readers."""
    return (
        "const card = element.closest('.ch-lanecard');"
        f"card?.setAttribute('role', 'group'); card?.setAttribute('aria-label', 'Lane {number}');"
    )


def _values(form: LaneForm) -> list[Any]:
    return [form.stack, form.stack, *(form.components[stage] for stage in LABELS), form.dtype, form.typed]


def _second(hub: Hub, stack: str) -> LaneForm:
    """Something to compare with from the start: the other wording of the prompt, where the stack takes it."""
    own = hub.registry.stack(stack).components[Stage.PROMPT_TEMPLATE]
    parts = {Stage.PROMPT_TEMPLATE: PROMPT_AUDIO} if own == PROMPT else {}
    try:
        return LaneForm.of(hub, Lane(stack, parts))
    except HubError:
        return LaneForm.of(hub, Lane(stack))


def line(hub: Hub, form: LaneForm) -> str:
    """The lane as the command line takes it; "" while it is none."""
    try:
        return str(form.lane(hub))
    except HubError:
        return ""


def note(hub: Hub, form: LaneForm) -> str:
    """Whether the lane can run; if it can, what its stack is."""
    try:
        lane = form.lane(hub)
        spec = hub.stack(lane)
    except HubError as error:
        return render("compare/refused.html", problem=f"{error.message} {error.hint}".strip())
    problems, warnings = fit(hub, lane)
    if problems or warnings:
        return render("fit.html", problems=problems, warnings=warnings)
    return stack_note(hub, spec)


def hint(hub: Hub, form: LaneForm) -> str:
    """The options of what is chosen, with their defaults."""
    try:
        known = known_options(hub, form.lane(hub))
    except HubError:
        return ""
    return render("compare/known_options.html", options=known)
