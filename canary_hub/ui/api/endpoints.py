"""The public endpoints: `/transcribe` (an audio file in, its text out, streamed as it is written), `/compare`,
`/inspect` (the trace of a run) and `/components` (what is installed, as data); and which of them are MCP tools."""

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
from ...lanes import Lane
from ...registry import component_facts, segmenter_facts, stack_facts
from ...specs import ComponentSpec, Contract
from ..compare.forms import visitors_lane
from ..compare.runs import run_lanes
from ..server import gradio_inside
from ..server.queue import MODEL
from ..server.visitor import caller_headers
from ..widgets.runs import transcribe

TOOLS = ("transcribe", "compare", "components")
"""Endpoints by name. Not `inspect`: a trace would fill a model's context with attention and pictures."""

SHAPE = """The trace (run/result.py documents every field; times in seconds of the file, probabilities over the whole
vocabulary): version, file, duration, stack, components, parameters and nbytes by stage; stages: a list of {stage,
component, seconds, shape, dtype, shared}, one per stage and batch; segments: a list of {start, end, prompt: [{id,
piece, slot}], frames: [{norm, nearest: [{id, piece, cosine}]}], frame_seconds, tokens: [{id, piece, probability,
entropy, alternatives: [{id, piece, probability}], frame}], words: [{text, first, stop, start, end}], attention (tokens
x frames, or null), log_mel (rows x columns of 0 to 255)}."""


def endpoints(hub: Hub, first: str) -> None:
    """Publish them; `first` is the stack by default. Only uploaded files are read."""
    _transcribe(hub, first)
    _compare(hub, first)
    _inspect(hub, first)
    _components(hub)


def offer_tools(demo: gr.Blocks) -> None:
    """Let a page that was launched with `mcp_server=True` offer `TOOLS` alone. Raises: HubError."""
    gradio_inside.offer_tools(demo, TOOLS, caller_headers)


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
        with closing(transcribe(hub, Lane(stack), audio)) as moments:
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
            parsed = [visitors_lane(hub, lane) for lane in lanes]
        except HubError as error:
            raise gr.Error(str(error), print_exception=False) from error
        with closing(run_lanes(hub, parsed, audio, reference, details)) as moments:
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


def _inspect(hub: Hub, first: str) -> None:
    audio = gr.Audio(type="filepath", label="audio", visible=False)
    stack = gr.Dropdown(list(hub.registry.stacks), value=first, label="stack", visible=False)
    trace = gr.JSON(label="trace", visible=False)

    def inspect(audio: str, stack: str = first) -> dict[str, Any]:
        """Transcribe an audio file and return how it went.

        Args:
            audio: an audio file.
            stack: the stack that reads it.
        """
        with closing(transcribe(hub, Lane(stack), audio, details=True)) as moments:
            for moment in moments:
                if moment.state == "failed":
                    raise gr.Error(f"{moment.message} {moment.hint}".strip(), print_exception=False)
        assert moment.result is not None
        assert moment.result.trace is not None
        return moment.result.trace.to_json()

    gr.on(
        [],
        inspect,
        [audio, stack],
        trace,
        api_name="inspect",
        api_description="Transcribe an audio file and return how the audio entered the prompt, and what the model "
        f"wrote, token by token. {' '.join(SHAPE.split())}",
        concurrency_id=MODEL,
        concurrency_limit=1,
    )


def _components(hub: Hub) -> None:
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
    """What a component accepts and produces, or why that is not known; nothing is fetched to find out."""
    if isinstance(part.contract, Contract):
        return part.contract
    if any(ref is None or not (ref.path or ref.config) for ref in part.weights.values()):
        return "Its sizes follow from the weights of the stack it is used in."
    try:
        return hub.contract(part)
    except Exception:  # a plugin's own code; its message may name folders of this machine
        return "Its contract cannot be told; the Registry tab says why."
