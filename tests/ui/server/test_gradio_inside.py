"""What the page presumes of gradio's inside: found at start where it is gone, and the wall against addresses."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import gradio
import httpx
import pytest
from api_server import served
from gradio import processing_utils

from canary_hub import Hub
from canary_hub.errors import HubError
from canary_hub.ui import build_demo
from canary_hub.ui.server import gradio_inside
from canary_hub.ui.server.gradio_inside import FIELDS, NAMES, TEXTS, check, fetch_nothing

ROOT = Path(__file__).parents[3]


def refused() -> str:
    """Why the page does not start."""
    with pytest.raises(HubError) as error:
        build_demo(Hub(allow=()), "nano")
    assert "6.30 and 6.31" in str(error.value)
    assert gradio.__version__ in str(error.value)
    assert "\n" not in str(error.value)
    return error.value.message


def test_the_gradio_that_is_installed_has_it_all() -> None:
    check()


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_a_name_that_is_gone_is_named(module, name, monkeypatch) -> None:
    *path, last = name.split(".")
    owner: Any = import_module(module)
    for part in path:
        owner = getattr(owner, part)
    monkeypatch.delattr(owner, last)
    assert f"{module}.{name}" in refused()


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, fields in FIELDS.items() for field in fields])
def test_a_field_that_is_gone_is_named(kind, field, monkeypatch) -> None:
    instances = gradio_inside._instances

    class Without:
        def __init__(self, whole: object) -> None:
            self.whole = whole

        def __getattr__(self, name: str) -> object:
            if name == field:
                raise AttributeError(name)
            return getattr(self.whole, name)

    def lacking() -> dict[str, Any]:
        return {name: Without(found) if name == kind else found for name, found in instances().items()}

    monkeypatch.setattr(gradio_inside, "_instances", lacking)
    assert f"{kind}.{field}" in refused()


@pytest.mark.parametrize("files", TEXTS)
def test_a_file_that_has_changed_is_named(files, monkeypatch) -> None:
    monkeypatch.setitem(TEXTS, files, "what no file of gradio says")
    assert files in refused()


def test_a_page_without_a_description_is_named(monkeypatch) -> None:
    monkeypatch.setattr(gradio_inside, "META", gradio_inside.re.compile(b"what no file of gradio says"))
    assert "messengers" in refused()


def test_the_pin_is_what_was_checked() -> None:
    lowest, highest = gradio_inside.CHECKED.split(" and ")
    after = f"{highest.split('.')[0]}.{int(highest.split('.')[1]) + 1}"
    assert f'"gradio>={lowest},<{after}"' in (ROOT / "pyproject.toml").read_text()


# The wall


def test_no_page_starts_where_gradio_downloads_in_another_way(monkeypatch) -> None:
    """The function is there and is replaced, but what handles a request has kept the one it had."""

    async def download(self: object, path: str) -> str:
        return "/tmp/fetched"

    monkeypatch.setattr(gradio.blocks.Block, "async_move_resource_to_block_cache", download)
    assert "would fetch the addresses" in refused()


@pytest.mark.parametrize("name", ["async_ssrf_protected_get", "async_ssrf_protected_download"])
def test_the_wall_falls_with_an_error_where_a_download_is_renamed(name, monkeypatch) -> None:
    monkeypatch.delattr(processing_utils, name)
    with pytest.raises(HubError, match=name):
        fetch_nothing()
    assert name in refused()


def test_a_request_that_names_an_address_is_refused() -> None:
    paths: list[str] = []

    class Inside(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

    inside = HTTPServer(("127.0.0.1", 0), Inside)
    threading.Thread(target=inside.serve_forever, daemon=True).start()
    file = {"path": f"http://127.0.0.1:{inside.server_port}/secret.flac", "meta": {"_type": "gradio.FileData"}}
    with served() as url, httpx.Client(base_url=url, timeout=60) as client:
        event = client.post("/gradio_api/call/transcribe", json={"data": [file, "nano"]}).json()["event_id"]
        answer = client.get(f"/gradio_api/call/transcribe/{event}").text
    inside.shutdown()
    assert "This page fetches nothing: upload the file." in answer
    assert paths == []
