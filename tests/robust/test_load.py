"""Many visitors at once: nobody gets another's answer, nobody's is lost, and everybody has a turn."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from api_server import DIGITS, STACKS, endless_steps, free_port, served
from click.testing import CliRunner

from canary_hub import Hub
from canary_hub.errors import HubError
from canary_hub.ui import SESSIONS, build_demo, launch_settings
from canary_hub.ui.server.gradio_inside import runs_before
from canary_hub.ui.server.queue import QueueLimits, full, queued, retry_seconds
from canary_hub.ui.widgets.events import words

sys.path.append(str(Path(__file__).parent / "load"))
import serve as module
from serve import LoadReport, _overtaken, load_test, main
from visitors import Clip, Request, Visitor

SEVEN = (DIGITS / "seven.flac").read_bytes()


@pytest.mark.timeout(1800)
def test_the_real_server_under_many_visitors(tmp_path, whole, tally) -> None:
    visitors, requests, queue = (50, 20, 64) if whole else (8, 4, 6)
    report = load_test(Hub(tmp_path), visitors=visitors, requests=requests, queue=queue, progress=print)
    print(report)
    assert not report.failures
    assert (report.crossed, report.lost) == (0, 0)
    assert report.right + report.cancelled + report.left == report.requests == visitors * requests
    assert report.right > report.requests / 2
    assert report.cancelled + report.left
    assert report.refused, "the queue was never full"
    assert report.unclear == 0
    assert report.loads == report.distinct, "a stack was loaded more than once"
    assert report.overtaken <= 3
    assert report.holds
    if whole:
        assert report.slope is not None
        assert report.slope < 50
    tally("requests held", report.requests)


# Is what it would find found?


def waited(visitor: int, entered: float, began: float) -> Request:
    return Request(visitor, False, "clip", "nano", "page", "whole", entered=entered, began=began)


def test_overtaking_is_counted_by_visitor() -> None:
    mine = waited(0, 1.0, 5.0)
    others = [waited(1, 0, 2.0), waited(1, 0, 3.0), waited(2, 0, 4.0), waited(3, 0, 6.0), waited(1, 0, 0.5)]
    assert _overtaken(mine, [mine, *others]) == 2


@pytest.fixture
def liar() -> Iterator[str]:
    """A page that answers everybody with "one", and OpenAI's clients with nothing."""
    with gr.Blocks() as demo:
        audio, stack, text = gr.Textbox(), gr.Textbox(), gr.Textbox()
        gr.on([], lambda audio, stack: "one", [audio, stack], text, api_name="transcribe")
    port = free_port()
    demo.launch(prevent_thread_lock=True, server_port=port, quiet=True, ssr_mode=False)
    yield f"http://127.0.0.1:{port}"
    demo.close()


def test_a_server_that_mixes_and_loses_answers_is_found_out(liar) -> None:
    clips = [Clip("1.wav", SEVEN, {"nano": "one"}, True), Clip("2.wav", SEVEN, {"nano": "two"}, True)]
    plan = [(clip, Request(0, False, clip.name, "nano", "page", "whole")) for clip in clips]
    plan.append((clips[0], Request(0, False, "1.wav", "nano", "openai", "whole")))
    asyncio.run(Visitor(0, liar, 0, plan).visit())
    assert [request.state for _, request in plan] == ["right", "crossed", "lost"]
    assert plan[1][1].why == "'one' instead of 'two'"


def test_the_command_ends_with_1_for_a_crossed_answer(monkeypatch, tmp_path) -> None:
    numbers = dict.fromkeys(LoadReport.__dataclass_fields__, 1)
    numbers |= {"stacks": ("nano",), "waited": (0.0, 1.0, 2.0), "memory_mib": (5.0, 6.0), "failures": ("oh",)}
    for crossed, code in ((1, 1), (0, 0)):
        report = LoadReport(**{**numbers, "crossed": crossed, "lost": 0})
        monkeypatch.setattr(module, "load_test", lambda hub, report=report, **options: report)
        done = CliRunner().invoke(main, ["--json", str(tmp_path / "report.json")])
        assert done.exit_code == code
        assert "given another's" in done.output
        assert (tmp_path / "report.json").exists()


def test_a_server_that_does_not_start_is_told(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(module, "_clips", lambda *given: ([], 0))
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    with pytest.raises(HubError, match="The server does not start"):
        load_test(Hub(tmp_path), visitors=1, requests=1)


# Turns


class Line:
    """gradio's queue as far as `limits` looks at it, on a page of one function."""

    def __init__(self, limits: QueueLimits) -> None:
        with gr.Blocks() as demo:
            gr.on([], lambda: None, api_name="run")
        self.queue = queued(demo, limits)._queue

    def ask(self, who: str, session: str = "") -> tuple[bool, str, str]:
        request = SimpleNamespace(headers={}, client=SimpleNamespace(host=who))
        body = SimpleNamespace(fn_index=0, session_hash=session or who, event_id=None, request=None, data=[])
        return asyncio.run(self.queue.push(body=body, request=request, username=None))

    @property
    def order(self) -> str:
        (line,) = self.queue.event_queue_per_concurrency_id.values()
        return " ".join(event.request.client.host for event in line.queue)


def test_everybodys_first_run_comes_before_anybodys_second() -> None:
    line = Line(QueueLimits())
    for who in "aaaaabcbd":
        assert line.ask(who)[0]
    assert line.order == "a b c d a b a a a"
    (queue,) = line.queue.event_queue_per_concurrency_id.values()
    del queue.queue[0]  # a's first one begins
    line.ask("e")
    assert line.order == "b c d a e b a a a"  # nobody who came before is overtaken


def test_sessions_of_one_address_take_turns_too() -> None:
    line = Line(QueueLimits())
    for session in ("s1", "s1", "s1", "s2"):
        line.ask("office", session)
    line.ask("home")
    (queue,) = line.queue.event_queue_per_concurrency_id.values()
    assert [event.session_hash for event in queue.queue] == ["s1", "home", "s2", "s1", "s1"]


def test_a_full_queue_tells_the_number_and_the_time() -> None:
    line = Line(QueueLimits(waiting=2))
    assert full(line.queue) is None
    line.ask("a")
    line.ask("b")
    entered, said, state = line.ask("c")
    assert (entered, state) == (False, "queue_full")
    assert (
        said == full(line.queue) == ("Busy: the queue is full, this would be number 3 in it. Try again in 10 seconds.")
    )
    (fn,) = line.queue.blocks.fns.values()
    line.queue.process_time_per_fn[fn].add(2.5)
    line.queue.process_time_per_fn[fn].add(1.2)
    assert retry_seconds(line.queue) == 2
    line.queue.process_time_per_fn[fn].add(1000)
    assert retry_seconds(line.queue) == 60
    assert runs_before(line.queue, "b") == 1
    assert runs_before(line.queue, "c") is None


def test_the_page_says_how_many_come_first() -> None:
    assert words(None) == words(0) == ""
    assert "Busy: 1 run comes before yours." in words(1)
    assert "Busy: 3 runs come before yours." in words(3)


# Stop


def joined(page: httpx.Client, fn_index: int, stack: str, session: str) -> str:
    path = page.post("/gradio_api/upload", files={"files": ("seven.flac", SEVEN)}).json()[0]
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, stack]
    body = {"data": data, "fn_index": fn_index, "session_hash": session, "simple_format": True}
    return page.post("/gradio_api/queue/join", json=body).raise_for_status().json()["event_id"]


@pytest.mark.parametrize("how", ["cancel", "hang up"])
def test_stop_frees_the_worker_for_the_next(how, tally) -> None:
    with served() as url, httpx.Client(base_url=url, timeout=60) as page:
        config = page.get("/config").json()
        fn_index = next(one["id"] for one in config["dependencies"] if one["api_name"] == "transcribe")
        event = joined(page, fn_index, "endless", "first")
        answers = []

        def wait() -> None:
            files = {"file": ("seven.flac", SEVEN)}
            ask = {"url": f"{url}/v1/audio/transcriptions", "data": {"model": "nano"}, "files": files}
            answers.append(httpx.post(**ask, timeout=60).json()["text"])

        waiting = threading.Thread(target=wait)
        with page.stream("GET", "/gradio_api/queue/data", params={"session_hash": "first"}) as stream:
            lines = stream.iter_lines()
            while '"process_generating"' not in (line := next(lines)) or '"data":[""]' in line:
                pass
            waiting.start()
            time.sleep(1)
            assert not answers
            if how == "cancel":
                body = {"session_hash": "first", "fn_index": fn_index, "event_id": event}
                page.post("/gradio_api/cancel", json=body).raise_for_status()
        waiting.join(60)
        assert answers == ["seven"]
        steps = endless_steps()[-1]
        time.sleep(0.3)
        assert endless_steps()[-1] == steps, "it writes on"
    tally("requests held", 2)


def test_one_visitors_twenty_do_not_hold_up_anothers_one(tmp_path, tally) -> None:
    """On a real server: one address sends many at once, another one a single run after them."""
    order: list[str] = []
    everybody_is_here = threading.Event()

    def work(who: str) -> None:
        order.append(who)
        everybody_is_here.wait(60)

    with gr.Blocks() as demo:
        who = gr.Textbox()
        gr.on([], work, [who], None, api_name="run", concurrency_limit=1)
    queued(demo, QueueLimits())
    port = free_port()
    demo.launch(prevent_thread_lock=True, server_port=port, quiet=True, ssr_mode=False)

    async def visit() -> None:
        def visitor(address: str) -> httpx.AsyncClient:
            transport = httpx.AsyncHTTPTransport(local_address=address)
            return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", transport=transport, timeout=60)

        async with visitor("127.0.1.1") as many, visitor("127.0.1.2") as one:
            for _ in range(20):
                (await many.post("/gradio_api/call/run", json={"data": ["many"]})).raise_for_status()
            last = await one.post("/gradio_api/call/run", json={"data": ["one"]})
            everybody_is_here.set()
            await one.get(f"/gradio_api/call/run/{last.json()['event_id']}")

    asyncio.run(visit())
    for _ in itertools.takewhile(lambda _: len(order) < 21, range(600)):
        time.sleep(0.1)
    demo.close()
    # The one in work, the one that had waited longest, and then the other visitor's.
    assert order == ["many", "many", "one", *["many"] * 18]
    tally("requests held", 21)


def test_what_is_kept_of_visits_has_an_end() -> None:
    """gradio copies its page's configuration for every session, half a megabyte each, and keeps 10,000 of them."""
    demo = build_demo(Hub(STACKS), "nano")
    port = free_port()
    settings = launch_settings()
    assert settings["state_session_capacity"] == SESSIONS <= 500
    demo.launch(prevent_thread_lock=True, server_port=port, quiet=True, **{**settings, "state_session_capacity": 3})
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as page:
        for _ in range(5):
            files = {"file": ("seven.flac", SEVEN)}
            page.post("/v1/audio/transcriptions", data={"model": "nano"}, files=files).raise_for_status()
        assert not demo.state_holder.session_data, "a run by OpenAI's API leaves something behind"
        for number in range(5):
            page.post("/gradio_api/call/components", json={"data": ["encoder"], "session_hash": f"s{number}"})
    assert len(demo.state_holder.session_data) <= 3
    assert not [key for key in demo._queue.pending_event_ids_session if not key.startswith("s")]
    demo.close()
