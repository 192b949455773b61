"""`canary-hub serve` as a program of its own, and what it refuses."""

from __future__ import annotations

import importlib.util

import httpx
import pytest
from api_server import DIGITS, serving
from click.testing import CliRunner

from canary_hub.cli import main

OPTIONS = [
    "--share", "--auth", "ada:correct:horse", "--root-path", "/canary", "--max-file-size", "0.5", "--queue", "7"
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serve"), *OPTIONS) as found:
        yield found


def test_without_a_tunnel_the_page_runs_and_says_so(server):
    url, said = server
    assert f"There is no public link: gradio's tunnel could not be had. The page runs at {url}/" in said
    assert "Traceback" not in said
    assert httpx.get(url).is_success


def test_the_login_guards_page_and_api(server):
    url, _ = server
    assert httpx.get(f"{url}/config").status_code == 401
    files = {"file": ("seven.flac", (DIGITS / "seven.flac").read_bytes())}
    ask = {"url": f"{url}/v1/audio/transcriptions", "data": {"model": "nano"}, "files": files, "timeout": 60}
    assert httpx.post(**ask).status_code == 401
    assert httpx.post(**ask, headers={"authorization": "Bearer horse"}).status_code == 401
    allowed = httpx.post(**ask, headers={"authorization": "Bearer correct:horse"})
    assert allowed.json()["text"] == "seven"


def test_the_options_arrive(server):
    url, _ = server
    key = {"authorization": "Bearer correct:horse"}
    files = {"file": ("a.wav", bytes(1_600_000))}
    answer = httpx.post(f"{url}/v1/audio/transcriptions", data={"model": "nano"}, files=files, headers=key)
    assert (answer.status_code, "0.5 MB" in answer.text) == (413, True)
    with httpx.Client(base_url=url) as visitor:
        visitor.post("/login", data={"username": "ada", "password": "correct:horse"})
        config = visitor.get("/config").json()
        upload = visitor.post("/gradio_api/upload", files={"files": ("a.wav", bytes(600_000))})
    assert config["root"] == f"{url}/canary"
    assert upload.status_code == 413


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--auth", "ada"], "no USER:PASSWORD"),
        (["--auth", ":secret"], "no USER:PASSWORD"),
        (["--mcp", "--auth", "ada:secret"], "open to everybody"),
        (["--queue", "0"], "--queue"),
        (["--max-file-size", "-1"], "--max-file-size"),
        (["--port", "99999"], "--port"),
    ],
)
def test_what_cannot_be_served_is_told_at_once(arguments, said):
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code != 0
    assert said in result.output
    assert "secret" not in result.output


def test_mcp_tells_how_to_install_it(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mcp" else found(name))
    result = CliRunner().invoke(main, ["serve", "--mcp"])
    assert result.exit_code == 1
    assert "canary-hub[mcp]" in result.output
