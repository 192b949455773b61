"""One model in memory however many visitors; and what happens when memory is too short."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import torch
from api_server import DIGITS, free_port
from click.testing import CliRunner

from canary_hub import Hub
from canary_hub.cli import main
from canary_hub.errors import HubError, OptionError
from canary_hub.run.events import SegmentDone, StageDone
from canary_hub.run.pool import IDLE_ENTRIES, Pool, machine_bytes
from canary_hub.specs import Stage
from canary_hub.ui import build_demo, launch_settings

PLUGIN = '''
"""Stack `nano` with encoders that count how often they are loaded, and fail when they are told to."""

import time
from collections import Counter
from dataclasses import replace

from canary_hub.models import nano
from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Stage

LOADS = Counter()
FAIL = {}
"""What "load" or "forward" raises: a function that does."""
HELD = []
"""Weak references to what a failed forward had allocated."""


@hookimpl
def canary_components():
    contract = "canary_hub.models.canary_qwen.ports:fastconformer"
    weights = dict.fromkeys(("canary", "canary-llm"))
    return [
        ComponentSpec(Stage.ENCODER, f"shaky/{name}", f"{__name__}:build_{name}", contract, weights=weights)
        for name in "ab"
    ]


@hookimpl
def canary_stacks():
    (stack,) = nano.canary_stacks()
    return [
        replace(stack, name=name, components={**stack.components, Stage.ENCODER: f"shaky/{name}"}) for name in "ab"
    ]


class Shaky:
    nbytes = 1000

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, features, lengths):
        if "forward" in FAIL:
            import weakref

            import torch

            taken = torch.zeros(1000)
            HELD.append(weakref.ref(taken))
            FAIL["forward"]()
        return self.inner(features, lengths)


def build(name, given):
    from canary_hub.models.canary_qwen import encoder as fastconformer

    LOADS[name] += 1
    time.sleep(0.2)
    if "load" in FAIL:
        FAIL["load"]()
    return Shaky(fastconformer.build(given))


def build_a(given):
    return build("a", given)


def build_b(given):
    return build("b", given)
'''


def no_memory() -> None:
    raise MemoryError


def no_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def no_cpu_memory() -> None:
    torch.empty(1 << 50)  # torch's own error: a RuntimeError


SHORT = [no_memory, no_gpu_memory, no_cpu_memory]
SEVEN = DIGITS / "seven.flac"


@pytest.fixture
def shaky(tmp_path: Path) -> tuple[Hub, ModuleType]:
    """A hub with the plugin, and the plugin's module."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "shaky.py").write_text(PLUGIN)
    hub = Hub(folder)
    assert not [record.error for record in hub.records if record.error]
    return hub, sys.modules["canary_hub_plugin_shaky"]


@contextmanager
def page(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], httpx.Response]]:
    """A server of this process; calling it transcribes a digit with a stack."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
    port = free_port()
    demo = build_demo(hub, "nano")
    demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", server_port=port, quiet=True, **launch_settings())

    def ask(stack: str) -> httpx.Response:
        files = {"file": ("seven.flac", SEVEN.read_bytes())}
        url = f"http://127.0.0.1:{port}/v1/audio/transcriptions"
        return httpx.post(url, data={"model": stack}, files=files, timeout=60)

    yield ask
    demo.close()


def test_loading_happens_once_under_concurrent_first_requests(shaky, tally) -> None:
    hub, plugin = shaky
    together = threading.Barrier(8)

    def request() -> str:
        together.wait()
        with hub.load("a") as stack:
            return stack.transcribe(SEVEN).text

    with ThreadPoolExecutor(8) as pool:
        texts = [future.result() for future in [pool.submit(request) for _ in range(8)]]
    assert texts == ["seven"] * 8
    assert plugin.LOADS == {"a": 1}
    assert all(entry.users == 0 for entry in hub.pool._entries.values())
    tally("requests held", 8)


def test_a_page_loads_once_survives_short_memory_and_goes_on(shaky, tmp_path, monkeypatch, tally) -> None:
    hub, plugin = shaky
    with page(hub, tmp_path, monkeypatch) as ask:
        with ThreadPoolExecutor(6) as pool:
            answers = [pool.submit(ask, stack) for stack in "ababab"]
            assert [answer.result().json()["text"] for answer in answers] == ["seven"] * 6
        assert plugin.LOADS == {"a": 1, "b": 1}
        for fail in SHORT:
            plugin.FAIL["forward"] = fail
            refused = ask("a")
            assert refused.status_code == 503
            message = refused.json()["error"]["message"]
            assert message.startswith("There is not enough memory to run stack a on 1 piece of up to ")
            assert "smaller stack" in message
            assert "Traceback" not in message
            plugin.FAIL.clear()
            assert ask("a").json()["text"] == "seven"
            tally("faults survived", 1)
        assert plugin.LOADS == {"a": 1, "b": 1}
        hub.pool.clear()
        plugin.FAIL["load"] = no_cpu_memory
        said = ask("a").json()["error"]["message"]
        assert said.startswith("There is not enough memory to load shaky/a of stack a. Choose a smaller stack")
        plugin.FAIL.clear()
        assert ask("a").json()["text"] == "seven"
        tally("requests held", 14)


@pytest.mark.parametrize("fail", SHORT)
@pytest.mark.parametrize("when", ["load", "forward"])
def test_short_memory_is_said_in_python_and_nothing_of_it_is_kept(shaky, when, fail, tally) -> None:
    hub, plugin = shaky
    plugin.FAIL[when] = fail
    with pytest.raises(HubError, match=r"^There is not enough memory to (load shaky/a of|run) stack a") as caught:
        hub.load("a").transcribe(SEVEN)
    assert caught.value.hint
    assert [held() for held in plugin.HELD] == [None] * len(plugin.HELD), "the error keeps what took the memory"
    del caught
    gc.collect()
    assert all(entry.users == 0 for entry in hub.pool._entries.values())
    plugin.FAIL.clear()
    assert hub.load("a").transcribe(SEVEN).text == "seven"
    tally("faults survived", 1)


def test_short_memory_is_one_sentence_on_the_command_line(shaky, tmp_path) -> None:
    code = PLUGIN.replace("FAIL = {}", "import torch\nFAIL = {'load': lambda: torch.empty(1 << 50)}")
    (tmp_path / "plugins" / "shaky.py").write_text(code)
    done = CliRunner().invoke(
        main, ["transcribe", str(SEVEN), "--stack", "a", "--plugins-dir", str(tmp_path / "plugins")]
    )
    assert done.exit_code == 1
    assert "Error: There is not enough memory to load shaky/a of stack a.\nChoose a smaller stack" in done.output


def test_what_nobody_uses_makes_room_before_a_load_is_refused(shaky) -> None:
    hub, plugin = shaky
    hub.load("b").close()

    def once() -> None:
        del plugin.FAIL["load"]
        raise MemoryError

    plugin.FAIL["load"] = once
    assert hub.load("a").transcribe(SEVEN).text == "seven"
    assert plugin.LOADS == {"b": 1, "a": 2}
    loaded = Counter(entry.key[0] for entry in hub.pool._entries.values())
    assert loaded["shaky/a"] == 1
    assert not loaded["shaky/b"]


def test_another_error_is_not_tried_again(shaky) -> None:
    hub, plugin = shaky

    def broken() -> None:
        raise ValueError("no such thing")

    plugin.FAIL["load"] = broken
    with pytest.raises(HubError, match="no such thing"):
        hub.load("a")
    assert plugin.LOADS == {"a": 1}


def test_switching_stacks_evicts_by_bytes_and_never_under_a_running_request(shaky) -> None:
    hub, plugin = shaky
    hub.pool.max_bytes = 1500  # one of the two encoders, and not the rest of a stack
    running = hub.load("a")
    events = running.stream(SEVEN)
    next(event for event in events if isinstance(event, StageDone))
    encoder = weakref.ref(running.component(Stage.ENCODER))
    for _ in range(2):
        with hub.load("b") as other:
            assert other.transcribe(SEVEN).text == "seven"
    assert encoder() is not None
    (done,) = [event for event in events if isinstance(event, SegmentDone)]
    assert done.result.text == "seven"
    assert plugin.LOADS["a"] == 1
    assert plugin.LOADS["b"] == 2  # over the budget: not kept for the next
    running.close()
    del running, events
    gc.collect()
    assert encoder() is None
    assert hub.pool.nbytes <= 1500


def test_giving_back_within_a_locked_pool_waits_for_nothing() -> None:
    """The garbage collector may close a forgotten stack wherever memory is asked for, the pool's own code included."""
    pool = Pool(max_bytes=0)
    entry = pool.acquire("a", object)

    def collected_while_locked() -> None:
        with pool._lock:
            pool.release(entry)

    thread = threading.Thread(target=collected_while_locked, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "deadlock"
    pool.release(pool.acquire("b", object))
    assert entry.users == 0


def test_idle_parts_without_a_size_are_bounded_too() -> None:
    pool = Pool(max_bytes=10)
    for number in range(3 * IDLE_ENTRIES):  # such as one build option in many values
        pool.release(pool.acquire(number, object))
    assert len(pool) == IDLE_ENTRIES
    kept = pool.acquire(3 * IDLE_ENTRIES - 1, object)
    assert kept.load_seconds > 0


def test_the_pool_has_an_end_by_default(monkeypatch) -> None:
    monkeypatch.delenv("CANARY_HUB_POOL_GB", raising=False)
    total = machine_bytes()
    assert total
    assert Pool().max_bytes == total * 3 // 4
    monkeypatch.setenv("CANARY_HUB_POOL_GB", "1.5")
    assert Pool().max_bytes == 3 * 2**29
    for wrong in ("lots", "0", "-1", "nan"):
        monkeypatch.setenv("CANARY_HUB_POOL_GB", wrong)
        with pytest.raises(OptionError, match="CANARY_HUB_POOL_GB"):
            Pool()
