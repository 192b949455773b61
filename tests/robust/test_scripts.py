"""Script-bearing text in everything that the page shows, in a real browser: none of it runs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from chromium import chromium
from playwright.sync_api import expect

from canary_hub import Hub

CLIP = Path(__file__).parents[1] / "digits" / "three.flac"
RUN = "window.__pwned=(window.__pwned||0)+1"
EVIL = (
    f"<script>{RUN}</script>"
    f"<img src=x onerror={RUN}>"
    f"<svg onload={RUN}><animate onbegin={RUN} attributeName=x></svg>"
    f'"><iframe srcdoc="<script>parent.{RUN}</script>"></iframe>'
    f'<a href="javascript:{RUN}" id=evil-link>go</a>[go](javascript:{RUN})![x](x"onerror="{RUN})'
    f"' autofocus onfocus='{RUN}' </textarea></title><details open ontoggle={RUN}>{{{{{RUN}}}}}${{{RUN}}}"
)
SHORT = f"<img src=x onerror={RUN}>"

PLUGIN = f'''
import canary_hub.models.nano.plugin as base
from canary_hub.errors import HubError
from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Options, Port, StackSpec, Stage
from dataclasses import replace
from pydantic import Field

EVIL = {EVIL!r}

class Call(Options):
    max_new_tokens: int = Field(20, ge=1, description=EVIL)
    words: str = Field(EVIL, description=EVIL)

@hookimpl
def canary_components():
    own = "canary_hub.models.canary_qwen.ports:qwen3"
    both = dict.fromkeys(("canary", "canary-llm"))
    ports = Contract((Port("features", dim=128, tag=EVIL),), (Port("hidden", dim=144, rate_hz=12.5, tag=EVIL),))
    return [
        ComponentSpec(Stage.LLM, "evil/llm", f"{{__name__}}:build", own, EVIL, both, call_options=Call),
        ComponentSpec(Stage.ENCODER, "evil/fails", f"{{__name__}}:fail", ports, EVIL, install=EVIL),
    ]

@hookimpl
def canary_stacks():
    spec = list(base.canary_stacks())[0]
    parts = {{**spec.components, Stage.LLM: "evil/llm"}}
    failing = {{**spec.components, Stage.ENCODER: "evil/fails"}}
    return [
        replace(spec, name="evil", components=parts, title="Evil " + EVIL, note=EVIL, options={{}}),
        replace(spec, name="failing", components=failing, title="Failing", note=EVIL, options={{}}),
    ]

class Writer:
    """nano, which writes what nobody should run."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def decode(self, ids):
        return EVIL

    def pieces(self, ids):
        return [EVIL] * len(ids)

    def generate(self, inputs_embeds, attention_mask, options, stop=None, attention=False):
        return self._inner.generate(inputs_embeds, attention_mask, PLAIN(max_new_tokens=8), stop, attention)

def PLAIN(**values):
    from canary_hub.models.canary_qwen.checkpoint import COMPONENTS
    from canary_hub import Hub
    return Hub(allow=()).registry.component(COMPONENTS[Stage.LLM]).call_options(**values)

def build(build):
    from canary_hub.models.canary_qwen import llm as qwen3
    from canary_hub.stages import Build
    from canary_hub import Hub
    from canary_hub.models.canary_qwen.checkpoint import COMPONENTS
    options = Hub(allow=()).registry.component(COMPONENTS[Stage.LLM]).build_options()
    return Writer(qwen3.build(Build(options, build.weights, build.dtype, build.device)))

def fail(build):
    return lambda features, lengths: boom()

def boom():
    raise ValueError(EVIL)
'''


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page with a plugin that is full of scripts, and one whose import fails with them."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "evil.py").write_text(PLUGIN)
    (folder / "broken.py").write_text(f"raise RuntimeError({EVIL!r})")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        patch.setenv("CANARY_HUB_SHARE_DIR", str(folder / "shared"))
        patch.setenv("CANARY_HUB_CACHE", str(folder / "cache"))
        from canary_hub.ui import build_demo, launch_settings

        hub = Hub(folder)
        assert {record.name: record.ok for record in hub.records}["evil"], hub.records
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        demo = build_demo(hub, "evil")
        settings: dict[str, Any] = {"server_port": port, "prevent_thread_lock": True, "quiet": True}
        demo.launch(server_name="127.0.0.1", **settings, **launch_settings())
        yield f"http://127.0.0.1:{port}"
        demo.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


class Visit:
    """A page whose every frame is watched."""

    def __init__(self, browser: Any, url: str) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(90_000)
        self.dialogs: list[str] = []
        self.complaints: list[str] = []
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.page.on("console", lambda one: self.complaints.append(one.text) if one.type == "error" else None)
        self.page.goto(url)
        self.page.wait_for_selector("#run, #shared", state="attached")

    def check(self) -> None:
        """Nothing has run, and nothing that could run is there."""
        self.page.wait_for_timeout(300)  # what is going to load, loads
        assert [frame.evaluate("window.__pwned") for frame in self.page.frames] == [None] * len(self.page.frames)
        made = "img[src='x'], iframe[srcdoc], #evil-link, a[href^='javascript:'], [onerror], [onload], [ontoggle]"
        assert self.page.evaluate(f'document.querySelectorAll("{made}").length') == 0
        assert self.dialogs == []
        assert [text for text in self.complaints if "Content Security Policy" in text] == []


@pytest.fixture
def visit(browser: Any, page_url: str) -> Iterator[Callable[..., Visit]]:
    opened: list[Visit] = []

    def open(query: str = "") -> Visit:
        opened.append(Visit(browser, f"{page_url}/{query}"))
        return opened[-1]

    yield open
    for one in opened:
        one.context.close()


def evil_clip() -> dict[str, Any]:
    return {"name": f"{SHORT}.flac", "mimeType": "audio/flac", "buffer": CLIP.read_bytes()}


def test_transcribe_share_and_the_shared_view(visit: Callable[..., Visit], tally: Callable[[str, int], None]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.check()
    page.set_input_files("#speech input[type=file]", evil_clip())
    page.wait_for_selector("#run:not([disabled])")
    page.check("#detailed input")
    page.click("#prompt > button")
    page.locator("#prompt textarea").first.fill(EVIL)
    page.click("#components > button")
    page.click("#run")
    page.wait_for_selector("#status .ch-done")
    assert "onerror" in page.input_value("#transcript textarea")
    page.wait_for_selector("#details .ch-details")
    visitor.check()
    page.click("#transcribe-share > button")
    page.click("#transcribe-share-button")
    link = page.wait_for_selector("#transcribe-shared a").get_attribute("href")
    visitor.check()
    shared = visit(link)
    shared.page.wait_for_selector("#shared .ch-done")
    assert "onerror" in shared.page.inner_text("#shared-body")
    shared.check()
    tally("pages full of scripts", 2)


def test_what_fails_and_what_is_installed(visit: Callable[..., Visit], tally: Callable[[str, int], None]) -> None:
    visitor = visit("?v=1&stack=failing")
    page = visitor.page
    expect(page.locator("#stack input")).to_have_value("Failing")
    page.set_input_files("#speech input[type=file]", evil_clip())
    page.wait_for_selector("#run:not([disabled])")
    page.click("#run")
    page.wait_for_selector("#status .ch-failed")
    assert "evil/fails failed while running" in page.inner_text("#status")
    visitor.check()
    page.get_by_role("tab", name="Registry").click()
    page.wait_for_selector(".ch-registry")
    assert "onerror" in page.inner_text(".ch-registry")
    visitor.check()
    page.get_by_role("tab", name="Explore").click()
    page.wait_for_selector("#explore-which", state="visible")
    page.locator("#explore-which label").first.click()
    page.wait_for_selector("#explore-status .ch-done, #explore-status .ch-failed")
    visitor.check()
    tally("pages full of scripts", 1)


def test_compare_with_its_lanes_reference_and_exports(
    visit: Callable[..., Visit], tally: Callable[[str, int], None]
) -> None:
    lane = quote(f"nano before='{SHORT.replace(' ', '/')}'")
    visitor = visit(f"?v=1&view=compare&lane=evil&lane={lane}&lane=failing")
    page = visitor.page
    page.wait_for_selector("#compare-run", state="visible")
    visitor.check()
    page.set_input_files("#compare-speech input[type=file]", evil_clip())
    page.locator("#compare-reference textarea").first.fill(EVIL)
    page.wait_for_selector("#compare-run:not([disabled])")
    page.click("#compare-run")
    page.wait_for_selector("#compare-export", state="visible")
    visitor.check()
    tally("pages full of scripts", 1)


LINKS = ["stack={}", "result={}", "view={}&stack=nano", "stack=nano&llm={}", "stack=nano&{}=1"]


@pytest.mark.parametrize("query", LINKS)
def test_links(visit: Callable[..., Visit], query: str, tally: Callable[[str, int], None]) -> None:
    visitor = visit(f"?v=1&{query.format(quote(EVIL))}")
    visitor.page.wait_for_selector("#link-note, #shared .ch-failed, #run", state="attached")
    visitor.page.wait_for_timeout(700)
    visitor.check()
    tally("pages full of scripts", 1)


def test_markdown_of_scripts_is_text() -> None:
    from canary_hub.compare.markdown import _escaped

    said = _escaped(EVIL)
    assert "<" not in said
    assert "[go](" not in said
