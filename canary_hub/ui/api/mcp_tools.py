"""Which of the page's endpoints are MCP tools, for `serve --mcp`."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

TOOLS = ("transcribe", "compare", "components")
"""Endpoints by name. Not `inspect`: a trace would fill a model's context with attention and pictures."""


def offer_tools(demo: gr.Blocks) -> None:
    """Let a page that was launched with `mcp_server=True` offer `TOOLS` alone, and answer with JSON.

    gradio (6.31: mcp.GradioMCPServer) offers every public endpoint under the name of its function, and writes
    what is no text as Python shows it.
    """
    server: Any = demo.mcp_server_obj
    server.tool_to_endpoint = {f"{server.tool_prefix}{name}": f"/{name}" for name in TOOLS}
    as_content = server.postprocess_output_data

    def as_json(data: list[Any], root_url: str) -> Any:
        return as_content([one if isinstance(one, str) else _json(one) for one in data], root_url)

    server.postprocess_output_data = as_json


def _json(value: Any) -> str:
    plain = value.model_dump() if hasattr(value, "model_dump") else value
    return json.dumps(plain, ensure_ascii=False)
