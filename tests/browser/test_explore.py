"""The Explore tab, driven in a real browser."""

import json
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect

from canary_hub.ui.explore import runs as explore_runs


class Tab:
    """The page with the Explore tab opened."""

    def __init__(self, watched) -> None:
        self.watched, self.page = watched, watched.page
        self.page.wait_for_timeout(1000)  # the page picks the tab of its address once it is loaded
        self.page.get_by_role("tab", name="Explore").click()
        self.page.wait_for_selector("#explore-which")

    def look_at(self, title: str) -> None:
        self.page.locator("#explore-which label", has_text=title).click()

    def show(self, title: str) -> None:
        """Choose an exploration that runs the model, and run it."""
        self.look_at(title)
        self.page.wait_for_selector("#explore-run:visible:not([disabled])")
        self.page.click("#explore-run")
        self.wait(title)

    def wait(self, title: str) -> str:
        """The text of the sections, once those of this exploration are there."""
        self.page.wait_for_selector(f"#explore-sections h2:has-text('{title}')")
        self.page.wait_for_selector("#explore-status .ch-done")
        return self.page.inner_text(".ch-explored")


@pytest.fixture
def tab(watched):
    return Tab(watched)


@pytest.fixture
def slow(monkeypatch):
    """Explorations wait for the event this gives."""
    go, explore = threading.Event(), explore_runs.explore

    def wait(*args, **kwargs):
        go.wait(20)
        return explore(*args, **kwargs)

    monkeypatch.setattr(explore_runs, "explore", wait)
    yield go
    go.set()


def test_what_needs_no_model_is_shown_when_it_is_chosen(tab):
    tab.watched.pick("explore-stack", "Canary-Qwen 2.5B")
    tab.page.wait_for_selector("#explore-note:has-text('nothing is fetched')")
    figures = {
        "Structure": ("Embedding(151936, 2048)", "16 / 8", "2048 -> 6144 -> 2048", "1,720,574,976"),
        "LoRA": ("25.7M of 1.75B", "1.47 %", "256 / 128", "What is not shown"),
        "Weights": ("1,718 tensors", "112 are LoRA's", "What is not shown"),
        "Injection": ("9 + 1 + 5 = 15 tokens become 14 + N", "151669"),
        "Generation": ("max_new_tokens", "448", "151645"),
    }
    for title, said in figures.items():
        tab.look_at(title)
        shown = tab.wait(title)
        for words in said:
            assert words in shown, (title, words)
        expect(tab.page.locator("#explore-run")).to_be_hidden()


@pytest.mark.parametrize("title", ["LoRA", "Injection", "Generation"])
def test_what_runs_the_model_waits_for_show_and_is_kept(tab, title):
    tab.watched.pick("explore-stack", "Nano")
    tab.look_at(title)
    tab.page.wait_for_selector("#explore-status:has-text('press Show')")
    assert tab.page.locator("#explore-sections section").count() == 0
    tab.show(title)
    before = tab.page.inner_text(".ch-explored")
    assert "digits.flac" in before
    tab.look_at("Weights")
    tab.wait("Weights")
    tab.look_at(title)
    assert tab.wait(title) == before
    expect(tab.page.locator("#explore-run")).to_be_hidden()


def test_another_clip_is_heard(tab):
    clip = Path(__file__).parents[1] / "oracle" / "set_a" / "audio" / "slice1p3.wav"
    tab.watched.pick("explore-stack", "Nano")
    tab.show("Injection")
    tab.page.click("#explore-clip > button")
    tab.page.set_input_files("#explore-speech input[type=file]", clip)
    tab.page.wait_for_selector("#explore-status:has-text('press Show')")
    assert tab.page.locator("#explore-sections section").count() == 0
    tab.page.click("#explore-run")
    assert "slice1p3.wav of 1.30 s has N = 17 audio frames" in tab.wait("Injection")


def test_bad_audio_is_one_friendly_message(tab, tmp_path):
    bad = tmp_path / "not<b>audio.wav"
    bad.write_text("this is no audio")
    tab.watched.pick("explore-stack", "Nano")
    tab.look_at("Generation")
    tab.page.click("#explore-clip > button")
    tab.page.set_input_files("#explore-speech input[type=file]", bad)
    tab.page.wait_for_selector("#explore-run:visible:not([disabled])")
    tab.page.wait_for_timeout(500)
    tab.page.click("#explore-run")
    tab.page.wait_for_selector("#explore-status .ch-failed")
    tab.watched.says("#explore-status", "WAV")
    assert tab.page.locator("#explore-status b").count() == 0
    tab.watched.complaints.clear()  # the browser's own player cannot decode it either, and says so


def test_stop_ends_the_waiting_and_a_late_answer_is_not_shown(tab, slow):
    tab.watched.pick("explore-stack", "Nano")
    tab.look_at("LoRA")
    tab.page.wait_for_selector("#explore-run:visible:not([disabled])")
    tab.page.dblclick("#explore-run")
    tab.page.wait_for_selector("#explore-status .ch-busy progress")
    assert tab.page.is_disabled("#explore-run")
    tab.page.wait_for_selector("#explore-status:has-text('adapter on and off')")
    tab.page.click("#explore-stop")
    tab.page.wait_for_selector("#explore-status .ch-stopped")
    tab.page.wait_for_selector("#explore-run:not([disabled])")
    slow.set()
    tab.page.wait_for_timeout(1500)
    assert tab.page.locator("#explore-sections section").count() == 0
    expect(tab.page.locator("#explore-status .ch-stopped")).to_have_count(1)
    tab.page.click("#explore-run")
    tab.wait("LoRA")


def test_choosing_something_else_ends_a_run(tab, slow):
    tab.watched.pick("explore-stack", "Nano")
    tab.look_at("Generation")
    tab.page.wait_for_selector("#explore-run:visible:not([disabled])")
    tab.page.click("#explore-run")
    tab.page.wait_for_selector("#explore-status:has-text('Writing the answer')")
    tab.look_at("LoRA")
    tab.page.wait_for_selector("#explore-status:has-text('press Show')")
    slow.set()
    tab.page.wait_for_timeout(1500)
    assert tab.page.locator("#explore-sections section").count() == 0
    tab.watched.says("#explore-status", "press Show")
    tab.page.click("#explore-run")
    tab.wait("LoRA")


def test_it_downloads_as_json(tab):
    tab.watched.pick("explore-stack", "Canary-Qwen 2.5B")
    expect(tab.page.locator("#explore-json")).to_be_hidden()
    tab.look_at("Structure")
    tab.wait("Structure")
    with tab.page.expect_download() as download:
        tab.page.click("#explore-json")
    assert download.value.suggested_filename == "structure-canary-qwen-2.5b.json"
    found = json.loads(download.value.path().read_text("utf-8"))
    assert (found["exploration"], found["parameters"]) == ("structure", 1720574976)


def test_html_in_names_stays_text(tab):
    tab.watched.says("#explore-note", "Writes <i>gibberish</i>.")
    tab.look_at("Weights")
    tab.wait("Weights")
    assert tab.page.locator("#explore-sections i, #explore-note i").count() == 0


def test_a_stack_that_has_nothing_of_the_kind_says_so(tab, monkeypatch):
    from canary_hub.explore.subject import Subject

    monkeypatch.setattr(Subject, "in_published_layout", False)
    tab.look_at("LoRA")
    tab.page.wait_for_selector("#explore-status .ch-failed")
    tab.watched.says("#explore-status", "no LoRA")


def test_it_works_by_keyboard_alone(tab):
    page = tab.page
    page.locator("#explore-which input").first.focus()
    page.keyboard.press("Space")
    tab.wait("Structure")
    for key in ("Tab", "Tab", "Space"):  # gradio's radio buttons are one stop each
        page.keyboard.press(key)
    tab.wait("Weights")
    assert page.get_by_role("radio", name="3. Weights").is_checked()
    term = page.locator("#explore-sections .ch-sentence .ch-term").first
    assert page.locator(".ch-tip:visible").count() == 0
    for _ in range(12):
        page.keyboard.press("Tab")
        if term.evaluate("term => term === document.activeElement"):
            break
    tip = page.locator(".ch-tip:visible")
    expect(tip).to_have_count(1)
    assert tip.get_attribute("id") == term.get_attribute("aria-describedby")
    assert page.get_by_role("button", name="tensors").first.is_visible()


def test_a_chart_says_its_numbers_to_a_screen_reader(tab):
    tab.watched.pick("explore-stack", "Canary-Qwen 2.5B")
    tab.look_at("Structure")
    tab.wait("Structure")
    plot = tab.page.get_by_role("img", name="MiB over positions")
    assert "8 shared heads: from 0 at 0 to 448 at 4,096" in plot.get_attribute("aria-label")
    bars = tab.page.locator(".ch-hbars li").all_inner_texts()
    assert [bar.split("\n")[-1] for bar in bars] == ["311.2M", "352.3M", "7,168", "1.06B", "116.7k", "0"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling(browser, page_url, scheme):
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(page_url)
    page.wait_for_selector("#run")
    page.wait_for_timeout(1000)
    page.get_by_role("tab", name="Explore").click()
    page.click("#explore-stack input")
    page.get_by_role("option", name="Nano", exact=True).click()
    for i, title in enumerate(("Structure", "LoRA", "Weights", "Injection", "Generation")):
        page.locator("#explore-which label").nth(i).click()
        if title in ("LoRA", "Injection", "Generation"):
            page.wait_for_selector("#explore-run:visible:not([disabled])")
            page.click("#explore-run")
        page.wait_for_selector(f"#explore-sections h2:has-text('{title}')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, title
        for term in page.locator("#explore-sections .ch-term").all()[:6]:
            term.focus()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, title
            place = page.locator(".ch-term:focus + .ch-tip").bounding_box()
            assert place["x"] >= 0
            assert place["x"] + place["width"] <= 390
    context.close()
