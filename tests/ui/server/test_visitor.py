"""Whose request it is: what proxies appended, what MCP callers are, and what counts towards a visitor's runs."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
from api_server import served
from starlette.datastructures import Headers

from canary_hub.errors import OptionError
from canary_hub.ui.server import queue as queue_module
from canary_hub.ui.server.queue import MODEL, QueueLimits, queued
from canary_hub.ui.server.visitor import CALLER, SECRET, caller_headers, trusted_proxies, visitor


def request(*forwarded: str, host: str = "10.9.9.9", **more: str) -> Any:
    headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    return SimpleNamespace(headers=Headers(raw=headers), client=SimpleNamespace(host=host))


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        ("0", ["1.1.1.1"], "10.9.9.9"),
        ("", ["1.1.1.1"], "10.9.9.9"),
        ("1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        ("1", ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
        ("2", ["6.6.6.6, 1.1.1.1, 10.0.0.1"], "1.1.1.1"),
        ("2", ["10.0.0.1"], "10.9.9.9"),
        ("1", [], "10.9.9.9"),
        ("1", [""], "10.9.9.9"),
    ],
)
def test_only_what_trusted_proxies_appended_counts(proxies, forwarded, expected, monkeypatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setenv("CANARY_HUB_TRUSTED_PROXIES", proxies)
    assert visitor(request(*forwarded)) == expected


def test_a_space_has_one_proxy_unless_it_says_otherwise(monkeypatch) -> None:
    monkeypatch.delenv("CANARY_HUB_TRUSTED_PROXIES", raising=False)
    monkeypatch.setenv("SPACE_ID", "ann/demo")
    assert trusted_proxies() == 1
    assert visitor(request("6.6.6.6, 1.1.1.1")) == "1.1.1.1"
    monkeypatch.setenv("CANARY_HUB_TRUSTED_PROXIES", "2")
    assert visitor(request("6.6.6.6, 1.1.1.1, 10.0.0.1")) == "1.1.1.1"


@pytest.mark.parametrize("wrong", ["-1", "one", "1.5"])
def test_a_number_of_proxies_that_is_none_is_refused(wrong, monkeypatch) -> None:
    monkeypatch.setenv("CANARY_HUB_TRUSTED_PROXIES", wrong)
    with pytest.raises(OptionError, match="CANARY_HUB_TRUSTED_PROXIES"):
        trusted_proxies()


def test_nobody_else_can_say_for_whom_a_request_is() -> None:
    answered = request(**caller_headers(request(host="10.1.1.1")))
    assert visitor(answered) == "10.1.1.1"
    for forged in ("10.1.1.1", "guess 10.1.1.1", f"{SECRET}x 10.1.1.1"):
        assert visitor(request(**{CALLER: forged})) == "10.9.9.9"


def test_every_caller_of_a_tool_is_a_visitor_of_its_own(monkeypatch) -> None:
    """Also one that writes X-Forwarded-For itself, which gradio passes on to its own server."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    from canary_hub.ui.api import endpoints

    seen: list[str] = []

    def noted(request: Any) -> str:
        seen.append(visitor(request))
        return seen[-1]

    monkeypatch.setattr(queue_module, "visitor", noted)
    launch = gr.Blocks.launch

    def launched(demo: gr.Blocks, *rest: Any, **settings: Any) -> Any:
        result = launch(demo, *rest, **settings, mcp_server=True)
        endpoints.offer_tools(demo)
        return result

    monkeypatch.setattr(gr.Blocks, "launch", launched)

    async def call(url: str, address: str) -> None:
        client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(local_address=address),
            headers={"x-forwarded-for": "6.6.6.6", CALLER: "guess 6.6.6.6"},
            timeout=60,
        )
        connection = streamable_http_client(f"{url}/gradio_api/mcp/", http_client=client)
        async with connection as (receive, send, _), ClientSession(receive, send) as session:
            await session.initialize()
            await session.call_tool("transcribe", {"audio": "data:audio/wav;base64,AAAA"})

    with served() as url, ThreadPoolExecutor(1) as thread:
        for address in ("127.0.1.1", "127.0.1.2"):
            thread.submit(asyncio.run, call(url, address)).result()
    assert set(seen) == {"127.0.1.1", "127.0.1.2"}


def test_who_connects_from_this_machine_is_not_believed_either(monkeypatch) -> None:
    """A tunnel does, for all who come through it; uvicorn by itself takes their word."""
    seen: list[str] = []
    monkeypatch.setattr(queue_module, "visitor", lambda request: seen.append(visitor(request)) or "")
    with served() as url, httpx.Client(base_url=url, headers={"x-forwarded-for": "6.6.6.6"}, timeout=60) as client:
        client.post("/gradio_api/call/transcribe", json={"data": [None, "nano"]}).raise_for_status()
    assert set(seen) == {"127.0.0.1"}


def test_only_what_needs_a_model_counts_towards_a_visitors_runs() -> None:
    with gr.Blocks() as demo:
        gr.on([], lambda: None, api_name="share")
        gr.on([], lambda: None, api_name="look", concurrency_id="explore")
        gr.on([], lambda: None, api_name="run", concurrency_id=MODEL, concurrency_limit=1)
    queue: Any = queued(demo, QueueLimits(per_visitor=1))._queue

    def enter(number: int) -> bool:
        body = SimpleNamespace(fn_index=number, session_hash="s", event_id=None, request=None, data=[])
        entered: bool = asyncio.run(queue.push(body=body, request=request(), username=None))[0]
        return entered

    share, look, run = demo.fns
    assert [enter(number) for number in (share, look, share, look, run, run, share, look)] == [
        *[True] * 5, False, True, True
    ]  # fmt: skip
