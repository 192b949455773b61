"""The page: a heading and the tabs."""

from __future__ import annotations

import gradio as gr

from ..hub import Hub
from .api import endpoint
from .registry_tab import registry_tab
from .transcribe import TranscribeTab

KEEP_SECONDS = 3600
"""Uploads are deleted once they are this old."""

HEADING = """<header class="ch-heading"><h1>canary_hub</h1>
<p>Upload or record speech, and read what a speech-LLM makes of it.</p></header>"""

PRIVACY = f"""<p class="ch-privacy">Audio stays on the machine that runs this page and is deleted from it
within {2 * KEEP_SECONDS // 3600} hours. Nothing is tracked.</p>"""


def page(hub: Hub, first: str) -> gr.Blocks:
    """All of it, as Blocks; `first` names the stack that is picked at the start."""
    with gr.Blocks(title="canary_hub", analytics_enabled=False, delete_cache=(KEEP_SECONDS // 4, KEEP_SECONDS)) as demo:
        gr.HTML(HEADING)
        with gr.Tab("Transcribe"):
            TranscribeTab(hub, first)
        with gr.Tab("Registry"):
            registry_tab(hub)
        gr.HTML(PRIVACY)
        endpoint(hub, first)
    queued: gr.Blocks = demo.queue(max_size=64)
    return queued
