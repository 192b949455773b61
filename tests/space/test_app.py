"""Staged Spaces as Hugging Face would start them, and what a public page refuses."""

from __future__ import annotations

import base64
import importlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import ORACLE, ROOT
from zerogpu_server import ZeroGpuServer

from canary_hub.audio.waveform import Waveform
from canary_hub.errors import HubError, OptionError
from canary_hub.hub import Hub
from canary_hub.lanes import Lane
from canary_hub.space import stage
from canary_hub.specs import Stage
from canary_hub.ui.server.queue import MODEL, QueueLimits, queued
from canary_hub.ui.widgets import runs, zerogpu
from canary_hub.ui.widgets.runs import transcribe

DIGITS = Path(__file__).parents[1] / "digits"
SPEECH = ORACLE / "audio" / "speech.wav"
VISITOR = {"x-ip-token": f"a.{base64.urlsafe_b64encode(json.dumps({}).encode()).decode().rstrip('=')}.c"}


@contextmanager
def running(folder: Path, program: tuple[str, ...] = ("app.py",), **settings: str) -> Iterator[str]:
    """The address of a staged app in a process of its own, as on a Space: no secrets, no CUDA, no network."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("CANARY_", "HF_", "GRADIO_"))}
    environment = {
        **mine,
        "SYSTEM": "spaces",
        "SPACE_ID": "ann/demo",
        "CUDA_VISIBLE_DEVICES": "",
        "CANARY_HUB_STACK": "nano",
        "HF_HOME": str(folder.parent / "hf"),
        "HF_HUB_OFFLINE": "1",
        "GRADIO_TEMP_DIR": str(folder.parent / "gradio"),
        "GRADIO_SERVER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        **settings,
    }
    log = folder.parent / "log.txt"
    app = start(program, folder, environment, log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(app.pid, signal.SIGKILL)  # the processes that ZeroGPU forks too
        app.wait()


def start(program: tuple[str, ...], folder: Path, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """The app when its launch is over. gradio ends it where a first request to itself takes more than 3 s, which
    happens while other tests keep every core busy: then once more."""
    for _ in range(5):
        with log.open("w") as out:
            app = subprocess.Popen(
                [sys.executable, *program], cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True
            )
        while app.poll() is None:
            if "To create a public link" in log.read_text():
                return app
            time.sleep(0.2)
        if "localhost is not accessible" not in log.read_text():
            break
    raise AssertionError(log.read_text())


def client_of(url: str, **headers: str):
    from gradio_client import Client

    return Client(url, verbose=False, analytics_enabled=False, headers=headers)


def said(client, audio: Path) -> str:
    from gradio_client import handle_file

    return client.predict(handle_file(str(audio)), api_name="/transcribe")


def test_the_staged_cpu_space_starts_and_transcribes(tmp_path):
    from gradio_client.exceptions import AppError

    folder = stage(ROOT / "spaces" / "cpu", tmp_path / "cpu").folder
    where = [sys.executable, "-c", "import canary_hub; print(canary_hub.__file__)"]
    assert subprocess.check_output(where, cwd=folder, text=True).strip() == str(folder / "canary_hub" / "__init__.py")
    with running(folder, CANARY_HUB_MAX_SECONDS="2") as url:
        client = client_of(url)
        _, stack = client.view_api(return_format="dict")["named_endpoints"]["/transcribe"]["parameters"]
        assert "'canary-qwen-2.5b-int8'" in stack["python_type"]["type"]
        assert stack["parameter_default"] == "nano"
        assert said(client, DIGITS / "four.flac") == "four"
        with pytest.raises(AppError, match="longer than the limit of 2 seconds"):
            said(client, SPEECH)
        assert httpx.get(f"{url}/gradio_api/file={folder / 'space.env'}").status_code == 403
        call = f"{url}/gradio_api/call/transcribe"
        file = {"path": str(folder / "canary_hub/clips/digits.flac"), "meta": {"_type": "gradio.FileData"}}
        event = httpx.post(call, json={"data": [file, "nano"]}).json()["event_id"]
        assert "event: error" in httpx.get(f"{call}/{event}").text


@pytest.fixture(scope="module")
def zerogpu_space(tmp_path_factory) -> Iterator[tuple[str, ZeroGpuServer, Path]]:
    """Address of a staged ZeroGPU Space, what hands out its GPUs, and its folder."""
    work = tmp_path_factory.mktemp("zerogpu")
    folder = stage(ROOT / "spaces" / "zerogpu", work / "zerogpu").folder
    (folder / "plugins").mkdir()  # nobody asked for it
    (folder / "plugins" / "stray.py").write_text("open('stray', 'w')")
    (work / "cgroup").write_text("0::/here\n")
    gpus = ZeroGpuServer()
    settings = {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": gpus.url,
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(work / "cgroup"),
        "PYTHONPATH": str(folder),
    }
    with running(folder, (str(Path(__file__).parents[1] / "zerogpu_server.py"),), **settings) as url:
        assert gpus.calls == ["/startup-report"]
        yield url, gpus, folder
    gpus.shutdown()


def test_the_staged_zerogpu_space_runs_on_gpus_it_asks_for(zerogpu_space):
    from gradio_client.exceptions import AppError

    url, gpus, folder = zerogpu_space
    client = client_of(url, **VISITOR)
    gpus.answer = "yes"
    gpus.calls.clear()
    assert said(client, DIGITS / "four.flac") == "four"
    assert gpus.calls == ["/schedule", "/allow", "/release"]
    assert all(0 < seconds <= 20 for seconds in gpus.asked)
    for gpus.answer, sentence in {
        "busy": "All GPUs are in use at the moment",
        "quota": r"used up. There is more in 2:00:00",
        "too long": "longer than one run may have the GPU",
    }.items():
        with pytest.raises(AppError, match=sentence):
            said(client, DIGITS / "four.flac")
    assert not (folder / "stray").exists()


def test_a_run_of_the_openai_api_belongs_to_who_asked(zerogpu_space):
    url, gpus, _ = zerogpu_space
    files = {"file": ("four.flac", (DIGITS / "four.flac").read_bytes())}
    ask = {"data": {"model": "nano"}, "files": files, "headers": VISITOR, "timeout": 120}
    gpus.answer = "yes"
    gpus.tokens.clear()
    answer = httpx.post(f"{url}/v1/audio/transcriptions", **ask)
    assert answer.json().get("text") == "four", answer.text
    assert gpus.tokens == [VISITOR["x-ip-token"]]
    gpus.answer = "quota"
    refused = httpx.post(f"{url}/v1/audio/transcriptions", **ask)
    assert refused.status_code == 503
    assert "There is more in 2:00:00" in refused.json()["error"]["message"]


def test_gpu_seconds_follow_the_length_of_the_audio():
    def asked(seconds: float, details: bool = False) -> float:
        wave = Waveform(np.zeros(int(seconds * 100), np.float32), 100, "a")
        return runs._gpu_seconds(Lane("nano"), wave, "a.wav", 0.0, details)

    assert asked(10) < asked(100) < asked(600) <= 60
    assert asked(100) < asked(100, details=True)


def test_everything_a_run_shows_pickles(hub, tiny_spec, monkeypatch):
    short = tiny_spec.override(options={Stage.LLM: {"max_new_tokens": 3}})
    monkeypatch.setattr(Hub, "stack", lambda *given, **more: short)
    moments = list(transcribe(hub, Lane("tiny"), str(ORACLE / "audio" / "frames2.wav"), details=True))
    assert moments[-1].state == "done"
    assert moments[-1].result.trace is not None
    assert pickle.loads(pickle.dumps(moments)) == moments
    raised = pickle.loads(pickle.dumps(zerogpu._Raised(HubError("what", "do")))).error
    assert (raised.message, raised.hint) == ("what", "do")


def test_elsewhere_the_decorator_does_nothing(monkeypatch):
    def work(hub, value):
        yield value

    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert zerogpu.gpu(lambda value: 1)(work) is work


def test_errors_come_out_of_a_gpu_function_as_they_were(hub, monkeypatch):
    importlib.import_module("spaces")  # without the variable: no fork here
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")

    @zerogpu.gpu(lambda problem: 1)
    def work(hub, problem):
        yield "begun"
        raise problem

    for problem, kind in ((HubError("what", "do"), HubError), (ValueError("x"), RuntimeError)):
        steps = work(hub, problem)
        assert next(steps) == "begun"
        with pytest.raises(kind) as caught:
            next(steps)
        assert getattr(caught.value, "hint", "do") == "do"


@pytest.mark.parametrize(
    ("title", "message", "told"),
    [
        ("ZeroGPU worker error", "GPU task aborted", "time for this run was up"),
        ("ZeroGPU pending credits exceeded", "You have too many ZeroGPU credits allocated", "Too many of your runs"),
        ("ZeroGPU quota exceeded", "Space app has reached its GPU limit. Try re-running", "This Space has used up"),
        ("ZeroGPU quota exceeded", "No GPU was available after 60s. Try re-running", "All GPUs are in use"),
        ("ZeroGPU client error", "Expired ZeroGPU proxy token", "Load the page again"),
        ("", "whatever comes next year", "could not be had"),
    ],
)
def test_what_zerogpu_refuses_is_said_in_plain_words(title, message, told):
    what, hint = zerogpu.refusal(title, message)
    assert told in f"{what} {hint}"
    assert hint.endswith(".")


# Limits of the queue


@pytest.fixture
def slow_page(monkeypatch) -> Iterator[tuple[str, threading.Event]]:
    """A page whose one run waits for the event; two runs a visitor, four may wait. Behind a Space's proxy."""
    import gradio as gr

    monkeypatch.setenv("SPACE_ID", "ann/demo")
    go_on = threading.Event()
    settings = {"api_name": "slow", "concurrency_id": MODEL, "concurrency_limit": 1}
    with gr.Blocks() as demo:
        text = gr.Textbox()
        gr.on([], lambda text: go_on.wait(30) and text, [text], [text], **settings)
    queued(demo, QueueLimits(waiting=3, per_visitor=2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    demo.launch(server_port=port, prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield f"http://127.0.0.1:{port}", go_on
    go_on.set()
    demo.close()


def ask(url: str, visitor: str) -> httpx.Response:
    return httpx.post(
        f"{url}/gradio_api/call/slow", json={"data": ["hello"]}, headers={"x-forwarded-for": f"6.6.6.6, {visitor}"}
    )


def test_a_visitor_has_only_so_many_runs_and_the_queue_an_end(slow_page):
    url, go_on = slow_page
    accepted = [ask(url, "1.1.1.1"), ask(url, "1.1.1.1")]
    assert all(answer.is_success for answer in accepted)
    refused = ask(url, "1.1.1.1")
    assert refused.status_code == 400
    assert "You have 2 runs waiting or in work already" in refused.json()["detail"]
    while ask(url, "2.2.2.2").is_success:  # others still may, until theirs or the queue is full
        pass
    accepted.append(ask(url, "3.3.3.3"))
    full = [ask(url, f"4.4.4.{i}") for i in range(4)]
    assert full[-1].status_code == 503
    assert "full" in full[-1].json()["detail"].lower()
    go_on.set()
    for answer in accepted[:2]:
        event = answer.json()["event_id"]
        assert "hello" in httpx.get(f"{url}/gradio_api/call/slow/{event}", timeout=30).text
    assert ask(url, "1.1.1.1").is_success


def test_queue_limits_come_from_the_environment(monkeypatch):
    assert QueueLimits.from_env() == QueueLimits(64, None)
    monkeypatch.setenv("CANARY_HUB_QUEUE", "20")
    monkeypatch.setenv("CANARY_HUB_PER_VISITOR", "2")
    assert QueueLimits.from_env() == QueueLimits(20, 2)
    for wrong in ("0", "-1", "2.5", "many"):
        monkeypatch.setenv("CANARY_HUB_PER_VISITOR", wrong)
        with pytest.raises(OptionError, match="CANARY_HUB_PER_VISITOR"):
            QueueLimits.from_env()
