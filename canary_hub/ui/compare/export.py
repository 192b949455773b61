"""A comparison as files to keep and to send: JSON that the page opens again, Markdown for an issue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from ...compare import Comparison, to_json, to_markdown


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
        markdown, cache = to_markdown(comparisons), self.json.GRADIO_CACHE
        return [
            gr.update(visible=True),
            save_bytes_to_cache(to_json(comparisons).encode(), f"{stem}.comparison.json", cache),
            save_bytes_to_cache(markdown.encode(), f"{stem}.comparison.md", cache),
            markdown,
        ]
