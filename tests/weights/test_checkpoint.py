"""The real loading code against a stand-in for the Hub on the loopback: fetch, cache, and every refusal."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from conftest import ORACLE, ROOT
from huggingface_hub.errors import HfHubHTTPError

from canary_hub.errors import WeightsError
from canary_hub.specs import WeightsRef
from canary_hub.weights.checkpoint import snapshot

REVISION = "a" * 40
REPOS = {
    "nvidia/canary-qwen-2.5b": [ORACLE / "checkpoint" / n for n in ("config.json", "model.safetensors")],
    "Qwen/Qwen3-1.7B": [ORACLE / "llm" / n for n in ("config.json", "tokenizer.json", "tokenizer_config.json")],
}


class FakeHub(BaseHTTPRequestHandler):
    """The few routes that snapshot_download uses; `broken` says how the repositories answer."""

    broken = ""
    asked: list[str]

    def log_message(self, *args: object) -> None: ...

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        type(self).asked.append(self.path)
        refusals = {"gone": (404, "RepoNotFound"), "gated": (403, "GatedRepo"), "revision": (404, "RevisionNotFound")}
        if self.broken in refusals:
            return self.refuse(*refusals[self.broken])
        if self.broken == "garbage":
            return self.send(b'"hello"', body)
        for repo, files in REPOS.items():
            if self.path.startswith(f"/api/models/{repo}/tree/"):
                sizes = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0"} for f in files]
                return self.send(json.dumps(sizes).encode(), body)
            if self.path.startswith(f"/api/models/{repo}"):
                siblings = [{"rfilename": file.name} for file in files]
                return self.send(json.dumps({"id": repo, "sha": REVISION, "siblings": siblings}).encode(), body)
            for file in files:
                if self.path == f"/{repo}/resolve/{REVISION}/{file.name}":
                    return self.send(file.read_bytes(), body)
        return self.refuse(404, "EntryNotFound")

    def send(self, content: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def fake_hub() -> Iterator[tuple[str, type[FakeHub]]]:
    handler = type("Handler", (FakeHub,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()


def transcribe(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The stack at the stand-in's revision (a plugin file pins it), in a fresh process."""
    plugins = home / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / "pinned.py").write_text(
        "from dataclasses import replace\n"
        "from canary_hub.models.canary_qwen import plugin as c\n"
        "from canary_hub.hookspecs import hookimpl\n"
        "@hookimpl\n"
        "def canary_stacks():\n"
        "    spec = list(c.canary_stacks())[0]\n"
        f"    pin = lambda ref: replace(ref, revision={REVISION!r}, gib=GIB, config=None)\n".replace(
            "GIB", environment.get("GIB", "None")
        )
        + "    return [replace(spec, name='pinned', weights={r: pin(w) for r, w in spec.weights.items()})]\n"
    )
    command = [sys.executable, "-m", "canary_hub.cli", "transcribe", "--stack", "pinned", "--dtype", "float32"]
    command += ["--plugins-dir", str(plugins), str(ORACLE / "audio" / "speech.wav")]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1", **environment},
        timeout=120,
    )


def test_fetches_once_then_runs_offline(fake_hub: tuple[str, type[FakeHub]], tmp_path: Path) -> None:
    endpoint, hub = fake_hub
    first = transcribe(tmp_path, HF_ENDPOINT=endpoint)
    assert (first.returncode, first.stdout) == (0, "user\n"), first.stderr
    fetched = [path for path in hub.asked if "/resolve/" in path]
    assert any("model.safetensors" in path for path in fetched)
    hub.asked.clear()
    again = transcribe(tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1")
    assert (again.returncode, again.stdout) == (0, "user\n"), again.stderr
    assert hub.asked == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("gone", "no repository 'nvidia/canary-qwen-2.5b'"),
        ("gated", "is gated"),
        ("revision", "has no revision"),
        ("garbage", "makes no sense"),
    ],
)
def test_refusals_are_one_clear_message(
    fake_hub: tuple[str, type[FakeHub]], tmp_path: Path, broken: str, message: str
) -> None:
    endpoint, hub = fake_hub
    hub.broken = broken
    result = transcribe(tmp_path, HF_ENDPOINT=endpoint)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_offline_without_a_cache(tmp_path: Path) -> None:
    result = transcribe(tmp_path, HF_HUB_OFFLINE="1")
    assert result.returncode == 1
    assert "not on this machine" in result.stderr
    assert "Traceback" not in result.stderr


def test_nothing_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its tries
    with pytest.raises(WeightsError, match="cannot be reached"):
        snapshot(WeightsRef(repo="nvidia/canary-qwen-2.5b", revision=REVISION))


REFUSAL = httpx.Response(500, request=httpx.Request("GET", "http://hub"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (HfHubHTTPError("500 Server Error", response=REFUSAL), "refused to send"),
        (OSError(errno.ENOSPC, "No space left on device"), "no room"),
        (ConnectionResetError("reset"), "could not be downloaded"),
    ],
)
def test_failures_in_the_middle(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def fail(*args: object, **kwargs: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(WeightsError, match=message):
        snapshot(WeightsRef("someone/model"))


def test_no_room_on_the_disk(fake_hub: tuple[str, type[FakeHub]], tmp_path: Path) -> None:
    result = transcribe(tmp_path, HF_ENDPOINT=fake_hub[0], GIB="1e9")
    assert result.returncode == 1
    assert "no room" in result.stderr
    assert "HF_HOME" in result.stderr
