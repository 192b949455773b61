"""The one public endpoint, `/transcribe`: an audio file in, its text out, streamed as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import gradio as gr

from ..hub import Hub
from .ask import MODEL
from .runs import Choice, transcribe


def endpoint(hub: Hub, first: str) -> None:
    """Publish `/transcribe(audio, stack) -> text`. Only uploaded files are read."""
    audio = gr.Audio(type="filepath", label="audio", visible=False)
    stack = gr.Dropdown(list(hub.registry.stacks), value=first, label="stack", visible=False)
    text = gr.Textbox(label="text", visible=False)

    def answer(audio: str, stack: str = first) -> Iterator[str]:
        """Transcribe an audio file; every answer is the text so far, the last one is the transcript."""
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
