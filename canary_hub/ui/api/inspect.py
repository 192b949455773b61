"""The public endpoint `/inspect`: an audio file in, the trace of its run out."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import gradio as gr

from ...hub import Hub
from ..server.queue import MODEL
from ..widgets.runs import Choice, transcribe

SHAPE = """The trace (trace.py documents every field; times in seconds of the file, probabilities over the whole
vocabulary): version, file, duration, stack, components, parameters and nbytes by stage; stages: a list of {stage,
component, seconds, shape, dtype, shared}, one per stage and batch; segments: a list of {start, end, prompt: [{id,
piece, slot}], frames: [{norm, nearest: [{id, piece, cosine}]}], frame_seconds, tokens: [{id, piece, probability,
entropy, alternatives: [{id, piece, probability}], frame}], words: [{text, first, stop, start, end}], attention (tokens
x frames, or null), log_mel (rows x columns of 0 to 255)}."""


def inspect_endpoint(hub: Hub, first: str) -> None:
    """Publish it; `first` is the stack by default."""
    audio = gr.Audio(type="filepath", label="audio", visible=False)
    stack = gr.Dropdown(list(hub.registry.stacks), value=first, label="stack", visible=False)
    trace = gr.JSON(label="trace", visible=False)

    def inspect(audio: str, stack: str = first) -> dict[str, Any]:
        """Transcribe an audio file and return how it went.

        Args:
            audio: an audio file.
            stack: the stack that reads it.
        """
        with closing(transcribe(hub, Choice(stack), audio, details=True)) as moments:
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
