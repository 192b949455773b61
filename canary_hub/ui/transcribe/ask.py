"""LLM mode: questions about the transcript, answered by the stack's LLM with its speech adapter off."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from html import escape
from typing import Any

import gradio as gr

from ...errors import HubError, explain
from ...hub import Hub
from ...pipeline import Stack
from ...specs import Stage
from ..server.queue import MODEL, full_queue
from ..widgets.events import after, ending, starting
from ..widgets.html import status
from ..widgets.loading import load
from ..widgets.picker import Picker
from ..widgets.quiet import PRIVATE, QUIET
from ..widgets.runs import Choice, Moment
from ..widgets.zerogpu import gpu

SUMMARISE = "Summarise the following transcript in a few sentences."
ANSWER_TOKENS = 2048
"""Room for thinking before the answer."""
ACTIONS = "List the action items in the following transcript, one a line. If there are none, say so."
STOPPED = status(Moment("stopped", "Stopped."))
STOPPED_WAITING = f"(answer) => answer?.includes('ch-waits') ? {json.dumps(STOPPED)} : {{__type__: 'update'}}"
"""Runs in the browser at the click on Stop: what still waits then was not turned away."""


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

    def listen(self) -> None:
        """Wire the buttons; the panel follows the LLM that is picked."""
        inputs = [self.text, self.question, *self.picker.inputs]
        buttons = [self.summarise, self.actions, self.question, self.stop]
        running: list[Any] = []
        for asks, ready in (
            (self.summarise.click, SUMMARISE),
            (self.actions.click, ACTIONS),
            (self.question.submit, ""),
        ):
            asks(None, None, [self.answer, *buttons], js=starting(3), **QUIET)
            event = asks(
                self._asking(ready),
                inputs,
                [self.answer],
                trigger_mode="once",
                concurrency_id=MODEL,
                concurrency_limit=1,
                **PRIVATE,
            )
            for over in after(
                event.then(self._ended, [self.answer], [self.answer], **QUIET),  # after it was cancelled too
                event.failure(self._turned_away, [self.answer], [self.answer], **QUIET),
            ):
                over(None, None, buttons, js=ending(3), **QUIET)
            running.append(event)
        self.stop.click(None, [self.answer], [self.answer], js=STOPPED_WAITING, **QUIET)
        self.stop.click(None, None, None, cancels=running, **QUIET)
        stack, llm = self.picker.stack, self.picker.components[Stage.LLM]
        for picked in (stack, llm):
            picked.change(self._follow, [stack, llm], [self.why, self.panel], **QUIET)

    def _can(self, stack: str, llm: str) -> bool:
        return self.hub.registry.stack(stack).chat and self.hub.registry.component(llm, Stage.LLM).chat

    def _why(self, stack: str, llm: str) -> str:
        if self._can(stack, llm):
            words = "The stack's LLM answers, with its speech adapter switched off."
        elif not self.hub.registry.stack(stack).chat:
            words = f"The LLM of stack {escape(stack)} learnt to transcribe only; pick a stack that can chat."
        else:
            words = f"{escape(llm)} writes transcripts only; pick an LLM backend that answers text prompts."
        return f'<p class="ch-note">{words}</p>'

    def _follow(self, stack: str, llm: str) -> list[Any]:
        return [self._why(stack, llm), gr.update(visible=self._can(stack, llm))]

    def _ended(self, answer: str) -> Any:
        return STOPPED if "ch-busy" in (answer or "") else gr.skip()

    def _turned_away(self, answer: str, request: gr.Request) -> Any:
        if "ch-waits" not in (answer or ""):  # stopped, which gradio calls a failure too
            return gr.skip()
        busy = full_queue(request)
        return status(Moment("failed", busy or "It could not be asked.", "Try again in a while."))

    def _asking(self, ready: str) -> Any:
        def ask(text: str, question: str, *values: Any) -> Iterator[str]:
            try:
                asked = message(ready or question, text)
                yield _busy("Starting")
                with closing(answers(self.hub, self.picker.choice(values), asked)) as steps:
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


def _gpu_seconds(choice: Choice, asked: str) -> float:
    """Enough for `ANSWER_TOKENS` at 25 ms each."""
    return 55


@gpu(_gpu_seconds)
def answers(hub: Hub, choice: Choice, asked: str) -> Generator[str, None, None]:
    """The answer so far as HTML, again and again. Raises: HubError."""
    loading = load(hub, choice.spec(hub))
    while True:
        try:
            yield _busy(next(loading))
        except StopIteration as end:
            stack = end.value
            break
    with stack, closing(stack.chat(asked, **longer(stack))) as parts:
        text = ""
        for part in parts:
            text = part.text
            yield show(text, part.note)
        if not text.strip():
            yield '<p class="ch-note">The model wrote no answer.</p>'


def longer(stack: Stack) -> dict[str, int]:
    """The limit for an answer as a call option, where the LLM backend has one."""
    known = "max_new_tokens" in type(stack.options[Stage.LLM]).model_fields
    return {"max_new_tokens": ANSWER_TOKENS} if known else {}


def show(answer: str, note: str | None = None) -> str:
    """An answer as HTML: thinking text is folded away, everything else shown as it is.

    Args:
        note: why it is not complete.
    """
    found = re.match(r"\s*<think>(.*?)(?:</think>(.*)|$)", answer, re.DOTALL)
    thought, rest = (found[1].strip(), found[2]) if found else ("", answer)
    html = '<div class="ch-answer" role="status" aria-live="polite">'
    if thought:
        label = "Thinking" if rest is None else "What it thought first"
        html += f'<details class="ch-fold"><summary>{label}</summary><p>{escape(thought)}</p></details>'
    mark = f'<p class="ch-warning">The answer was {escape(note)}.</p>' if note else ""
    return f"{html}<p>{escape((rest or '').strip())}</p>{mark}</div>"


def _busy(words: str) -> str:
    return status(Moment("busy", words))
