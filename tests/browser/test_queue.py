"""What the page does when the queue turns a run away."""

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from canary_hub.ui.widgets import run_controls
from canary_hub.ui.widgets.events import LOOK_EVERY

SPEECH = Path(__file__).parents[1] / "oracle" / "set_a" / "audio" / "speech.wav"


def turn_away(page, status: int = 400) -> None:
    """From now on the queue takes no run."""
    refusal = {"detail": "You have 2 runs waiting."}
    page.route("**/queue/join*", lambda route: route.fulfill(status=status, json=refusal))


@pytest.mark.parametrize(("status", "shown"), [(400, "You have 2 runs"), (503, "currently busy")])
def test_a_run_that_is_turned_away_is_told_and_can_be_tried_again(watched, status, shown):
    page = watched.page
    watched.upload(SPEECH)
    turn_away(page, status)
    page.click("#run")
    page.get_by_text(shown).first.wait_for()
    page.wait_for_selector("#run:not([disabled])")
    assert "Waiting" not in page.inner_text("#status")
    page.unroute("**/queue/join*")
    watched.run()
    watched.complaints.clear()  # the browser's own line about the refusal


def test_a_run_that_is_turned_away_leaves_the_last_result_and_its_downloads(watched):
    page = watched.page
    watched.upload(SPEECH)
    watched.run()
    page.wait_for_selector("#downloads")
    text = watched.text
    turn_away(page)
    page.click("#run")
    page.get_by_text("You have 2 runs").first.wait_for()
    page.wait_for_selector("#run:not([disabled])")
    page.wait_for_selector("#status .ch-done")
    assert watched.text == text
    assert page.is_visible("#downloads")
    watched.complaints.clear()


def test_the_next_run_can_be_asked_for_where_the_end_of_the_last_one_cannot(watched):
    page = watched.page
    watched.upload(SPEECH)
    with watched.held_at_its_end(watched.run) as held:
        held.pop().fulfill(status=429, json={"error": "Too many requests.", "detail": "Too many requests."})
        expect(page.locator("#run")).to_be_enabled()
        expect(page.locator("#stop")).to_be_disabled()
    watched.complaints.clear()  # the browser's own line about the refusal


def test_a_comparison_that_is_turned_away_can_be_tried_again(watched):
    page = watched.page
    page.get_by_role("tab", name="Compare").click()
    page.set_input_files("#compare-speech input[type=file]", SPEECH)
    page.wait_for_selector("#compare-run:not([disabled])")
    turn_away(page)
    page.click("#compare-run")
    page.get_by_text("You have 2 runs").first.wait_for()
    page.wait_for_selector("#compare-run:not([disabled])")
    assert "Waiting" not in page.inner_text("#compare-status")
    watched.complaints.clear()


def test_a_question_that_waits_can_be_stopped_and_one_turned_away_is_told(watched, browser):
    page = watched.page
    watched.upload(SPEECH)
    watched.run()
    other = type(watched)(browser, watched.url)
    other.upload(SPEECH)
    other.pick("stack", "Endless")
    other.page.click("#run")
    other.has_written(1)
    page.click("#ask > button")
    page.click("#ask-summarise")
    page.get_by_text("Busy: 1 run comes before yours.").wait_for()
    watched.says("#answer", "Waiting for its turn")
    page.click("#ask-stop")
    page.wait_for_selector("#ask-summarise:not([disabled])")
    page.wait_for_timeout(500)
    watched.says("#answer", "Stopped.")
    other.stop()
    other.page.wait_for_selector("#run:not([disabled])")
    other.context.close()
    turn_away(page)
    page.click("#ask-summarise")
    page.wait_for_selector("#answer .ch-failed")
    page.wait_for_selector("#ask-summarise:not([disabled])")
    watched.complaints.clear()


def test_a_question_that_is_stopped_keeps_what_was_answered(watched, monkeypatch):
    from canary_hub.ui.transcribe import ask

    def slowly(*_):
        for i in range(1000):
            yield f'<p class="ch-answer">Part {i}.</p>'
            time.sleep(0.05)

    monkeypatch.setattr(ask, "answers", slowly)
    page = watched.page
    watched.upload(SPEECH)
    watched.run()
    page.click("#ask > button")
    page.click("#ask-summarise")
    page.wait_for_selector("#answer .ch-answer")
    expect(page.locator("#ask-question textarea")).to_be_disabled()
    expect(page.locator("#ask-question button")).to_be_hidden()
    watched.stop("#ask-stop")
    page.wait_for_selector("#ask-summarise:not([disabled])")
    expect(page.locator("#ask-question textarea")).to_be_enabled()
    expect(page.locator("#ask-question button")).to_be_visible()
    page.wait_for_timeout(500)
    watched.says("#answer", "Part ")


def test_a_run_that_waits_is_told_how_many_come_before_it(watched, browser):
    page = watched.page
    other = type(watched)(browser, watched.url)
    other.upload(SPEECH)
    other.pick("stack", "Endless")
    other.page.click("#run")
    other.has_written(1)
    watched.upload(SPEECH)
    on_the_way = []
    page.route("**/queue/join*", lambda route: on_the_way.append(route))
    page.click("#run")
    page.wait_for_timeout(1000 * LOOK_EVERY + 500)  # the first look finds no run
    on_the_way[0].continue_()
    page.get_by_text("Busy: 1 run comes before yours.").wait_for()
    other.stop()
    page.wait_for_selector("#status .ch-done")
    page.get_by_text("Busy: 1 run comes before yours.").wait_for(state="hidden")
    other.context.close()


def test_a_full_queue_says_so_beside_the_button(watched, monkeypatch):
    message = "Busy: the queue is full, this would be number 65 in it."
    monkeypatch.setattr(run_controls, "full_queue", lambda request: message)
    page = watched.page
    watched.upload(SPEECH)
    watched.run()
    text = watched.text
    turn_away(page, 503)
    page.click("#run")
    page.wait_for_selector("#status .ch-failed")
    watched.says("#status", "this would be number 65")
    page.wait_for_selector("#run:not([disabled])")
    assert watched.text == text, "what was there before stays"
    assert page.is_visible("#downloads")
    page.unroute("**/queue/join*")
    watched.run()
    watched.complaints.clear()


def test_a_run_that_is_stopped_while_the_queue_is_full_keeps_its_text(watched, monkeypatch):
    monkeypatch.setattr(run_controls, "full_queue", lambda request: "Busy: the queue is full.")
    page = watched.page
    watched.pick("stack", "Endless")
    watched.upload(SPEECH)
    page.click("#run")
    watched.has_written(6)
    watched.stop()
    page.wait_for_selector("#run:not([disabled])")
    page.wait_for_timeout(500)
    watched.says("#status", "Stopped.")
    assert len(watched.text) > 5
    page.get_by_role("tab", name="Compare").click()
    page.set_input_files("#compare-speech input[type=file]", SPEECH)
    watched.pick("lane-1-stack", "Endless")
    page.click("#compare-run")
    expect(page.locator("#compare-lanes .ch-text").first).to_have_text(re.compile(".{6}"))
    watched.stop("#compare-stop")
    page.wait_for_selector("#compare-run:not([disabled])")
    page.wait_for_timeout(500)
    watched.says("#compare-status", "Stopped")
    assert len(page.locator("#compare-lanes .ch-text").first.inner_text()) > 5


def test_a_run_that_is_stopped_while_it_waits_was_not_turned_away(watched, browser, monkeypatch):
    """The full queue is no reason to say that it took no run."""
    monkeypatch.setattr(run_controls, "full_queue", lambda request: "Busy: the queue is full.")
    page = watched.page
    other = type(watched)(browser, watched.url)
    other.upload(SPEECH)
    other.pick("stack", "Endless")
    other.page.click("#run")
    other.has_written(1)
    watched.upload(SPEECH)
    page.click("#run")
    page.get_by_text("Busy: 1 run comes before yours.").wait_for()
    watched.stop()
    expect(page.locator("#run")).to_be_enabled()
    page.wait_for_timeout(500)
    assert "the queue is full" not in page.inner_text("#status")
    assert "Waiting" not in page.inner_text("#status")
    other.stop()
    other.page.wait_for_selector("#run:not([disabled])")
    other.context.close()


def test_an_exploration_that_the_full_queue_does_not_take_is_told_beside_the_button(watched, monkeypatch):
    monkeypatch.setattr(run_controls, "full_queue", lambda request: "Busy: the queue is full.")
    page = watched.page
    page.get_by_role("tab", name="Explore").click()
    watched.pick("explore-stack", "Nano")
    page.locator("#explore-which label", has_text="Injection").click()
    page.wait_for_selector("#explore-run:not([disabled])")
    turn_away(page, 503)
    page.click("#explore-run")
    watched.says("#explore-status", "the queue is full")
    page.wait_for_selector("#explore-run:not([disabled])")
    watched.complaints.clear()
