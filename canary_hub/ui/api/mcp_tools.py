"""Which of the page's endpoints are MCP tools, for `serve --mcp`."""

from __future__ import annotations

import gradio as gr

from ..server import gradio_inside
from ..server.visitor import caller_headers

TOOLS = ("transcribe", "compare", "components")
"""Endpoints by name. Not `inspect`: a trace would fill a model's context with attention and pictures."""


def offer_tools(demo: gr.Blocks) -> None:
    """Let a page that was launched with `mcp_server=True` offer `TOOLS` alone. Raises: HubError."""
    gradio_inside.offer_tools(demo, TOOLS, caller_headers)
