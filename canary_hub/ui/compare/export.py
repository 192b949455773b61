"""A comparison as files to keep and to send: JSON that the page opens again, Markdown for an issue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import gradio as gr

from ...compare import Comparison, to_json, to_markdown
from ..server.gradio_inside import keep_file


class Export:
    """Two download buttons, and the Markdown to copy."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="compare-export") as self.group:
            with gr.Row(elem_classes="ch-buttons"):
                self.json = gr.DownloadButton("Download JSON", size="sm", min_width=120, elem_id="compare-json")
                self.file = gr.DownloadButton("Download Markdown", size="sm", min_width=120, elem_id="compare-md")
            with gr.Accordion("Markdown, to paste into an issue", open=False, elem_id="compare-markdown"):
                self.markdown = gr.Textbox(
                    label="Markdown", lines=4, max_lines=14, interactive=False, buttons=["copy"], elem_id="compare-text"
                )

    @property
    def outputs(self) -> list[Any]:
        """What `prepare` fills."""
        return [self.group, self.json, self.file, self.markdown]

    def prepare(self, comparisons: Sequence[Comparison]) -> list[Any]:
        """The files, or nothing at all before a comparison has ended."""
        if not comparisons:
            return [gr.update(visible=False), gr.update(value=None), gr.update(value=None), ""]
        stem = PurePath(comparisons[0].file).stem or "audio"
        markdown = to_markdown(comparisons)
        return [
            gr.update(visible=True),
            keep_file(to_json(comparisons).encode(), f"{stem}.comparison.json", self.json),
            keep_file(markdown.encode(), f"{stem}.comparison.md", self.file),
            markdown,
        ]
