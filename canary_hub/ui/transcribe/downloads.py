"""The result as files, and as captions in the player."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

import gradio as gr

from ...run.formats import FORMATS, cues, to_srt, to_vtt
from ...run.result import Result
from ..server.gradio_inside import keep_file
from ..widgets.events import QUIET
from ..widgets.runs import Moment

LINE_CHARS, LINES = 42, 2
"""Subtitle conventions to begin with."""


class Downloads:
    """A row of buttons, one per format, and how long subtitle lines may be."""

    def __init__(self) -> None:
        with gr.Group(visible=False, elem_id="downloads") as self.group:
            with gr.Row(elem_classes="ch-downloads"):
                self.buttons = [
                    gr.DownloadButton(name, size="sm", min_width=44, elem_id=f"download-{name}") for name in FORMATS
                ]
                self.trace = gr.DownloadButton(
                    "details", size="sm", min_width=44, visible=False, elem_id="download-details"
                )
            with gr.Accordion("Subtitle lines", open=False, elem_id="subtitle-lines"), gr.Row():
                self.chars = gr.Slider(16, 80, value=LINE_CHARS, step=1, label="Characters a line", buttons=[])
                self.lines = gr.Slider(1, 4, value=LINES, step=1, label="Lines a caption", buttons=[])

    def listen(self, last: gr.State, audio: gr.Audio, after: Any) -> Any:
        """Prepare the files `after` a run has ended, and again when the lines are to be others; the first event.

        `last` holds the audio file and the moment that were shown last.
        """
        prepared, *_ = (
            listen(
                self._prepare,
                [last, self.chars, self.lines],
                [self.group, audio, self.trace, *self.buttons],
                **QUIET,
            )
            for listen in (after.then, self.chars.release, self.lines.release)
        )
        return prepared

    def _prepare(self, last: tuple[str | None, Moment], chars: int, lines: int) -> list[Any]:
        result = last[1].result
        if result is None:
            return [
                gr.update(visible=False),
                gr.skip(),
                gr.update(visible=False),
                *(gr.update(value=None) for _ in self.buttons),
            ]
        stem = PurePath(result.file).stem or "transcript"
        files = [
            keep_file(content.encode(), f"{stem}.{name}", self.trace)
            for name, content in contents(result, chars, lines).items()
        ]
        trace = gr.update(visible=False)
        if result.trace is not None:
            content = json.dumps(result.trace.to_json(), indent=1).encode()
            trace = gr.update(value=keep_file(content, f"{stem}.trace.json", self.trace), visible=True)
        return [gr.update(visible=True), gr.Audio(subtitles=captions(result, chars, lines)), trace, *files]


def contents(result: Result, chars: int = LINE_CHARS, lines: int = LINES) -> dict[str, str]:
    """Format name -> the file's content."""
    subtitles = {"srt": to_srt, "vtt": to_vtt}
    return {
        name: subtitles[name]([result], max_line_chars=chars, max_lines=lines) if name in subtitles else write([result])
        for name, write in FORMATS.items()
    }


def captions(result: Result, chars: int = LINE_CHARS, lines: int = LINES) -> list[dict[str, Any]]:
    """Cues as gradio's player takes them, times in seconds."""
    return [
        {"timestamp": [start / 1000, end / 1000], "text": "\n".join(text)}
        for start, end, text in cues(result.segments, chars, lines)
    ]
