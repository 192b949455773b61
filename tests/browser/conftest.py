import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chromium import TIMEOUT, chromium
from playwright.sync_api import expect

PLUGINS = Path(__file__).parent / "plugins"
AUDIO = Path(__file__).parents[1] / "oracle" / "set_a" / "audio"
SPEECH = AUDIO / "speech.wav"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """gradio sends any file of the working directory, where a user's installed package is not."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def page_url(tmp_path_factory) -> Iterator[str]:
    """The page with the stacks of plugins/page_stacks.py, served from this process."""
    import os

    os.environ["CANARY_HUB_SHARE_DIR"] = str(tmp_path_factory.mktemp("shared"))
    from canary_hub import Hub
    from canary_hub.ui import build_demo, launch_settings

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    demo = build_demo(Hub(PLUGINS), "tiny")
    demo.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, **launch_settings())
    yield f"http://127.0.0.1:{port}"
    demo.close()


@pytest.fixture(scope="session")
def endless_steps():
    """How many steps each decoding of stack `endless` has made."""
    return sys.modules["canary_hub_plugin_page_stacks"].STEPS


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Headless Chromium whose microphone plays speech.wav."""
    with chromium(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={SPEECH}",
        "--disable-background-networking",
    ) as opened:
        yield opened


class Watched:
    """A page in the browser, with what it complained of and whom it asked."""

    def __init__(self, browser, url: str, **context) -> None:
        self.context = browser.new_context(permissions=["microphone", "clipboard-read", "clipboard-write"], **context)
        self.context.set_default_timeout(TIMEOUT)
        self.page = self.context.new_page()
        self.url, self.complaints, self.outside = url, [], []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(url)
        self.page.wait_for_selector("#run")

    def _asked(self, request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.outside.append(request.url)

    def upload(self, path: Path) -> None:
        self.page.set_input_files("#speech input[type=file]", path)
        self.page.wait_for_selector("#run:not([disabled])")

    def pick(self, dropdown: str, choice: str) -> None:
        self.page.click(f"#{dropdown} input")
        self.page.get_by_role("option", name=choice, exact=True).click()

    @contextmanager
    def held(self, *data: object) -> Iterator[list[Any]]:
        """Meanwhile what the page sends with just this data is held back, as on a slow line; ... is any value."""
        held: list[Any] = []

        def hold(route) -> None:
            sent = json.loads(route.request.post_data)["data"]
            if len(sent) == len(data) and all(want in (..., got) for want, got in zip(data, sent, strict=True)):
                held.append(route)
            else:
                route.continue_()

        self.page.route("**/run/predict*", hold)
        yield held
        for route in held:
            route.continue_()
        self.page.unroute("**/run/predict*", hold)

    @contextmanager
    def held_at_its_end(self, run: Callable[[], None]) -> Iterator[list[Any]]:
        """After a run whose end the page has asked for, but not been told yet."""
        with self.held(..., None) as held:  # what the run has left is asked for with the clip, and a state
            run()
            while not held:
                self.page.wait_for_timeout(50)
            yield held

    def run(self, state: str = "done") -> None:
        self.page.click("#run")
        self.page.wait_for_selector(f"#status .ch-{state}")

    def stop(self, button: str = "#stop") -> None:
        """Click at once, as a visitor does: Playwright's own click waits for a page at rest, and this one draws."""
        self.page.click(button, force=True, no_wait_after=True)

    def has_written(self, characters: int) -> None:
        """Wait for a transcript of at least so many characters."""
        expect(self.page.locator("#transcript textarea")).to_have_value(re.compile(f".{{{characters}}}"))

    def says(self, selector: str, words: str) -> None:
        """Wait until a visitor can read the words there."""
        expect(self.page.locator(selector)).to_contain_text(words, use_inner_text=True)

    @property
    def text(self) -> str:
        return self.page.input_value("#transcript textarea")


@pytest.fixture
def watched(browser, page_url) -> Iterator[Watched]:
    """The page freshly opened; at the end nothing may have complained, nobody outside been asked."""
    opened = Watched(browser, page_url, viewport={"width": 1280, "height": 900})
    yield opened
    opened.context.close()
    assert opened.complaints == []
    assert opened.outside == []
