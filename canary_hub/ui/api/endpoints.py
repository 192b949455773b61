"""The public endpoints: `/transcribe`, an audio file in, its text out, streamed as it is written; and `/compare`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gradio as gr
from gradio.components.api_component import Api

from ...compare import to_json
from ...errors import HubError
from ...hub import Hub
from ..compare.forms import visitors_lane
from ..compare.runs import run_lanes
from ..server.queue import MODEL
from ..widgets.runs import Choice, transcribe


def endpoints(hub: Hub, first: str) -> None:
    """Publish them. Only uploaded files are read."""
    _transcribe(hub, first)
    _compare(hub, first)


def _transcribe(hub: Hub, first: str) -> None:
    audio = gr.Audio(type="filepath", label="audio", visible=False)
    stack = gr.Dropdown(list(hub.registry.stacks), value=first, label="stack", visible=False)
    text = gr.Textbox(label="text", visible=False)

    def answer(audio: str, stack: str = first) -> Iterator[str]:
        """Transcribe an audio file; every answer is the text so far, the last one is the transcript.

        Args:
            audio: an audio file.
            stack: the stack that reads it.
        """
        with closing(transcribe(hub, Choice(stack), audio)) as moments:
            for moment in moments:
                if moment.state == "failed":
                    raise gr.Error(f"{moment.message} {moment.hint}".strip(), print_exception=False)
                yield moment.text

    gr.on(
        [],
        answer,
        [audio, stack],
        text,
        api_name="transcribe",
        api_description="Transcribe an audio file. Every answer is the text so far, the last one is the transcript.",
        concurrency_id=MODEL,
        concurrency_limit=1,
    )


def _compare(hub: Hub, first: str) -> None:
    two = [first, f"{first} dtype=bfloat16"]
    audio = gr.Audio(type="filepath", label="audio", visible=False)
    lanes = Api(two, {"type": "array", "items": {"type": "string"}}, "lanes")  # type: ignore[dict-item]
    reference = gr.Textbox(value="", label="reference", visible=False)
    details = gr.Checkbox(value=False, label="details", visible=False)
    found = gr.JSON(label="comparison", visible=False)

    def answer(audio: str, lanes: list[str], reference: str = "", details: bool = False) -> Any:
        """Run an audio file through two to four lanes, one after another.

        Args:
            audio: an audio file.
            lanes: two to four stacks, each with what differs in it.
            reference: what was said, for error rates.
            details: whether to record tokens, frames and attention too.
        """
        try:
            if not isinstance(lanes, list) or not all(isinstance(lane, str) for lane in lanes):
                raise HubError("lanes is no list of texts.", f"For example: {json.dumps(two)}")
            asked = [visitors_lane(hub, lane) for lane in lanes]
        except HubError as error:
            raise gr.Error(str(error), print_exception=False) from error
        with closing(run_lanes(hub, asked, audio, reference, details)) as moments:
            for moment in moments:
                if moment.state == "failed":
                    raise gr.Error(f"{moment.message} {moment.hint}".strip(), print_exception=False)
        return json.loads(to_json(moment.comparisons))

    gr.on(
        [],
        answer,
        [audio, lanes, reference, details],
        found,
        api_name="compare",
        api_description=(
            "Run an audio file through two to four lanes, one after another, and compare them. A lane is a stack and "
            "what differs, as on the command line: 'nano llm=canary/qwen3-peft max_new_tokens=50 dtype=bfloat16'. "
            "With a reference (what was said) there are word and character errors; with details, what the injection "
            "details show. The answer is the JSON that the Compare tab exports and opens: comparisons[0].lanes, each "
            "with its state, and its text or the message of its failure."
        ),
        concurrency_id=MODEL,
        concurrency_limit=1,
    )
