"""LLM mode: questions about the transcript, answered by the stack's LLM with its speech adapter off."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import gradio as gr

from ...errors import HubError, explain
from ...hub import Hub
from ...lanes import Lane
from ...pipeline import Stack
from ...specs import Stage
from ..server.deadline import limited
from ..widgets.events import QUIET, Waiting
from ..widgets.html import note, status
from ..widgets.loading import load
from ..widgets.picker import Picker
from ..widgets.run_controls import STOPPED, RunControls
from ..widgets.runs import Moment
from ..widgets.templates import render
from ..widgets.zerogpu import gpu

SUMMARISE = "Summarise the following transcript in a few sentences."
ANSWER_TOKENS = 2048
"""Room for thinking before the answer."""
ACTIONS = "List the action items in the following transcript, one a line. If there are none, say so."


class Ask:
    """The panel: two ready questions, a free one, and the answer as it is written."""

    def __init__(self, hub: Hub, picker: Picker, text: gr.Textbox, first: str) -> None:
        self.hub, self.picker, self.text = hub, picker, text
        llm = hub.registry.stack(first).components[Stage.LLM]
        can = self._can(first, llm)
        with gr.Accordion("Ask the transcript", open=False, elem_id="ask"):
            self.why = gr.HTML(self._why(first, llm), elem_id="ask-why")
            with gr.Column(visible=can, elem_id="ask-panel") as self.panel:
                with gr.Row(elem_classes="ch-buttons"):
                    self.summarise = gr.Button("Summarise", size="sm", min_width=80, elem_id="ask-summarise")
                    self.actions = gr.Button("List action items", size="sm", min_width=120, elem_id="ask-actions")
                    self.stop = gr.Button(
                        "Stop", size="sm", min_width=60, variant="stop", interactive=False, elem_id="ask-stop"
                    )
                self.question = gr.Textbox(
                    label="Your question", lines=1, max_lines=4, submit_btn="Ask", elem_id="ask-question"
                )
                self.answer = gr.HTML("", elem_id="answer")

    def listen(self, waiting: Waiting | None) -> None:
        """Wire the buttons; the panel follows the LLM that is picked."""
        inputs = [self.text, self.question, *self.picker.inputs]
        buttons = [self.summarise, self.actions, self.question]
        answer = self.answer
        controls = RunControls(buttons, self.stop, answer, [answer], self._restore, [answer], waiting=waiting)
        for event, ready in (
            (self.summarise.click, SUMMARISE),
            (self.actions.click, ACTIONS),
            (self.question.submit, ""),
        ):
            controls.on(event, self._asking(ready), inputs)
        controls.listen()
        stack, llm = self.picker.stack, self.picker.components[Stage.LLM]
        for picked in (stack, llm):
            picked.change(self._follow, [stack, llm], [self.why, self.panel], **QUIET)

    def _can(self, stack: str, llm: str) -> bool:
        return self.hub.registry.stack(stack).chat and self.hub.registry.component(llm, Stage.LLM).chat

    def _why(self, stack: str, llm: str) -> str:
        if self._can(stack, llm):
            words = "The stack's LLM answers, with its speech adapter switched off."
        elif not self.hub.registry.stack(stack).chat:
            words = f"The LLM of stack {stack} learnt to transcribe only; pick a stack that can chat."
        else:
            words = f"{llm} writes transcripts only; pick an LLM backend that answers text prompts."
        return note(words)

    def _follow(self, stack: str, llm: str) -> list[Any]:
        return [self._why(stack, llm), gr.update(visible=self._can(stack, llm))]

    def _restore(self, refusal: str | None, answer: str | None) -> Any:
        if refusal is not None:
            return status(Moment("failed", refusal or "It could not be asked.", "Try again in a while."))
        return STOPPED if "ch-busy" in (answer or "") else gr.skip()

    def _asking(self, ready: str) -> Any:
        def ask(text: str, question: str, *values: Any) -> Iterator[str]:
            try:
                request = message(ready or question, text)
                yield _busy("Starting")
                lane = self.picker.lane(values)
                with closing(limited(self.hub, [lane], answers(self.hub, lane, request))) as steps:
                    yield from steps
            except Exception as error:
                what, hint = explain(error)
                yield status(Moment("failed", what, hint))

        return ask


def message(question: str, text: str) -> str:
    """The question with the transcript under it. Raises: HubError when either is missing."""
    if not text.strip():
        raise HubError("There is no transcript to ask about yet.", "Transcribe something first.")
    if not question.strip():
        raise HubError("There is no question yet.", "Type one, or use one of the buttons.")
    return f"{question.strip()}\n\nTranscript:\n{text.strip()}"


def _gpu_seconds(lane: Lane, request: str) -> float:
    """Enough for `ANSWER_TOKENS` at 25 ms each."""
    return 55


@gpu(_gpu_seconds)
def answers(hub: Hub, lane: Lane, request: str) -> Generator[str, None, None]:
    """The answer so far as HTML, again and again. Raises: HubError."""
    stack = yield from load(hub, lane, _busy)
    with stack, closing(stack.chat(request, **longer(stack))) as parts:  # type: ignore[type-var]
        text = ""
        for part in parts:
            text = part.text
            yield show(text, part.note)
        if not text.strip():
            yield note("The model wrote no answer.")


def longer(stack: Stack) -> dict[str, int]:
    """The limit for an answer as a call option, where the LLM backend has one."""
    known = "max_new_tokens" in type(stack.options[Stage.LLM]).model_fields
    return {"max_new_tokens": ANSWER_TOKENS} if known else {}


def show(answer: str, reason: str | None = None) -> str:
    """An answer as HTML: thinking text is folded away, everything else shown as it is.

    Args:
        reason: why it is not complete.
    """
    found = re.match(r"\s*<think>(.*?)(?:</think>(.*)|$)", answer, re.DOTALL)
    thought, rest = (found[1].strip(), found[2]) if found else ("", answer)
    return render(
        "transcribe/answer.html",
        thought=thought,
        label="Thinking" if rest is None else "What it thought first",
        answer=(rest or "").strip(),
        note=reason,
    )


def _busy(words: str) -> str:
    return status(Moment("busy", words))
