"""A run that shows nothing new for CANARY_HUB_STEP_SECONDS is given up; waiting for a download is not limited."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import pytest

from canary_hub import Hub
from canary_hub.errors import HubError, OptionError
from canary_hub.lanes import Lane, parse_lane
from canary_hub.run.background import in_background
from canary_hub.specs import Stage
from canary_hub.ui.server.deadline import limited, not_limited

HUNG = Lane("nano", {Stage.ENCODER: "test/hangs"})


@pytest.fixture(autouse=True)
def a_short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_HUB_STEP_SECONDS", "0.5")


def work(*items: str, hold: threading.Event | None = None) -> Generator[str, None, None]:
    yield from items
    if hold is not None:
        hold.wait(20)


def test_without_a_limit_the_run_stays_in_its_thread(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANARY_HUB_STEP_SECONDS")
    before = threading.active_count()
    run = limited(hub, [HUNG], work("a", "b"))
    assert next(run) == "a"
    assert threading.active_count() == before
    monkeypatch.setenv("CANARY_HUB_STEP_SECONDS", "soon")
    with pytest.raises(OptionError, match="CANARY_HUB_STEP_SECONDS"):
        next(limited(hub, [HUNG], work()))


def test_what_was_given_up_keeps_its_parts_busy_and_no_others(hub: Hub) -> None:
    hold = threading.Event()
    run = limited(hub, [HUNG, Lane("nano")], work("a", hold=hold))
    assert next(run) == "a"
    with pytest.raises(HubError, match=r"^nano encoder=test/hangs showed nothing new for 0.5 s and was given up\."):
        next(run)
    with pytest.raises(HubError, match="nano encoder=test/hangs is still busy"):
        next(limited(hub, [HUNG], work("a")))
    assert list(limited(hub, [Lane("nano")], work("a"))) == ["a"]
    hold.set()
    time.sleep(0.2)
    assert list(limited(hub, [parse_lane("nano encoder=test/hangs")], work("a"))) == ["a"]


def test_the_same_again_is_no_news_and_loading_in_the_background_counts(hub: Hub) -> None:
    hold = threading.Event()

    def loading() -> Generator[str, None, None]:
        done = in_background(lambda: hold.wait(20))
        while not done.done():
            time.sleep(0.05)
            yield "Loading"

    with pytest.raises(HubError, match="given up"):
        list(limited(hub, [HUNG], loading()))
    time.sleep(0.2)
    with pytest.raises(HubError, match="still busy"):
        list(limited(hub, [HUNG], work("a")))
    hold.set()
    time.sleep(0.2)
    assert list(limited(hub, [HUNG], work("a"))) == ["a"]


def test_a_download_and_a_slow_visitor_take_the_time_they_take(hub: Hub) -> None:
    def downloading() -> Generator[str, None, None]:
        for _ in range(20):
            not_limited()
            time.sleep(0.05)
            yield "Downloading"

    assert len(list(limited(hub, [HUNG], downloading()))) == 20
    run = limited(hub, [HUNG], work("a", "b"))
    assert next(run) == "a"
    time.sleep(0.8)
    assert list(run) == ["b"]


def test_errors_come_out_as_they_are_and_closing_ends_the_work(hub: Hub) -> None:
    ended = threading.Event()

    def failing() -> Generator[str, None, None]:
        try:
            yield "a"
            raise ValueError("the dog ate it")
        finally:
            ended.set()

    with pytest.raises(ValueError, match="the dog ate it"):
        list(limited(hub, [HUNG], failing()))
    ended.clear()
    run = limited(hub, [HUNG], failing())
    next(run)
    run.close()
    assert ended.is_set()
    assert list(limited(hub, [HUNG], work("a"))) == ["a"]
