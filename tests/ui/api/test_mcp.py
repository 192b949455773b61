"""`serve --mcp`, with the mcp package's client against a real server."""

from __future__ import annotations

import asyncio
import base64
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_server import DIGITS, serving
from click.testing import CliRunner
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from canary_hub.cli import main


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Ask the server: a tool's name and arguments, or nothing for the list of tools."""
    with serving(tmp_path_factory.mktemp("serve"), "--mcp") as (url, _):

        async def asked(tool, arguments):
            connection = streamable_http_client(f"{url}/gradio_api/mcp/")
            async with connection as (receive, send, _), ClientSession(receive, send) as session:
                await session.initialize()
                if tool is None:
                    return (await session.list_tools()).tools
                return await session.call_tool(tool, arguments)

        # In a thread: one that drives a browser, as other tests do, has an event loop already.
        with ThreadPoolExecutor(1) as thread:
            yield lambda tool=None, **arguments: thread.submit(asyncio.run, asked(tool, arguments)).result()


def data_url(name: str) -> str:
    return "data:audio/flac;base64," + base64.b64encode((DIGITS / name).read_bytes()).decode()


def test_the_tools_are_these_three_and_described(call):
    tools = {tool.name: tool for tool in call()}
    assert set(tools) == {"transcribe", "compare", "components"}
    assert tools["transcribe"].inputSchema["required"] == ["audio"]
    assert "nano" in tools["transcribe"].inputSchema["properties"]["stack"]["enum"]
    assert tools["compare"].inputSchema["properties"]["lanes"]["type"] == "array"
    for tool in tools.values():
        assert tool.description
        assert all(field["description"] for field in tool.inputSchema["properties"].values())


def test_transcribe(call):
    answer = call("transcribe", audio=data_url("seven.flac"), stack="nano")
    assert [content.text for content in answer.content] == ["seven"]


def test_compare_answers_with_json(call):
    answer = call("compare", audio=data_url("four.flac"), lanes=["nano", "nano dtype=bfloat16"], reference="four")
    found = json.loads(answer.content[0].text)
    assert [lane["text"] for lane in found["comparisons"][0]["lanes"]] == ["four", "four"]


def test_components_answers_with_json(call):
    found = json.loads(call("components").content[0].text)
    assert "nano" in {stack["name"] for stack in found["stacks"]}


def test_errors_are_plain_and_the_rest_is_no_tool(call):
    bad = call("transcribe", audio="data:audio/wav;base64,AAAA")
    assert bad.isError
    assert "audio" in bad.content[0].text
    assert "Traceback" not in bad.content[0].text
    for closed in ("inspect", "answer"):
        assert call(closed, audio=data_url("four.flac")).isError


def test_with_a_login_it_is_refused():
    """gradio would answer whoever asks."""
    result = CliRunner().invoke(main, ["serve", "--mcp", "--auth", "ada:secret"])
    assert result.exit_code == 1
    assert "open to everybody" in result.output
