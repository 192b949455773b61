"""The page, driven in a real browser."""

import json
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

AUDIO = Path(__file__).parents[1] / "oracle" / "set_a" / "audio"
SPEECH, LONG = AUDIO / "speech.wav", AUDIO / "long34.wav"


def test_an_uploaded_file_becomes_text(watched):
    expect(watched.page.locator("#run")).to_be_disabled()
    watched.upload(SPEECH)
    watched.run()
    assert watched.text.strip()
    watched.says("#status", "11.0 s of audio")
    watched.says("#status", "times real time")
    watched.says("#segments", "0:00.0 to 0:11.0")


def test_the_microphone_becomes_text(watched):
    page = watched.page
    page.click("#speech [aria-label='Record audio']")
    page.click("#speech button.record-button")
    page.wait_for_timeout(1000)
    page.click("#speech button.stop-button")
    page.wait_for_selector("#run:not([disabled])")
    watched.run()
    watched.says("#status", "of audio")


def test_stop_stops_within_a_few_tokens_and_keeps_the_text(watched, endless_steps):
    watched.pick("stack", "Endless")
    watched.upload(SPEECH)
    runs = len(endless_steps)
    watched.page.dblclick("#run")
    watched.has_written(21)
    assert watched.page.is_disabled("#run"), "a second click must not queue a second run"
    watched.stop()
    watched.page.wait_for_selector("#status .ch-stopped")
    steps = endless_steps[-1]
    time.sleep(0.5)
    assert endless_steps[-1] <= steps + 5
    assert len(endless_steps) == runs + 1
    assert watched.text.strip()
    watched.page.wait_for_selector("#run:not([disabled])")
    watched.page.wait_for_selector("#downloads")
    with watched.page.expect_download() as download:
        watched.page.click("#download-json")
    (kept,) = json.loads(download.value.path().read_text("utf-8"))[0]["segments"]
    assert watched.text.startswith(kept["text"])
    assert kept["text"]


def test_the_next_run_waits_until_all_of_the_last_one_is_shown(watched):
    page = watched.page
    page.check("#detailed input")
    watched.upload(AUDIO / "b0.wav")
    with watched.held_at_its_end(watched.run):
        assert page.is_disabled("#run"), "a late answer would show this run in place of the next one"
    page.uncheck("#detailed input")
    watched.run()
    expect(page.locator("#details .ch-lane")).to_have_count(0)


def test_leaving_the_page_stops_the_run(watched, endless_steps):
    watched.pick("stack", "Endless")
    watched.upload(SPEECH)
    watched.page.click("#run")
    watched.has_written(6)
    watched.page.goto("about:blank")
    for _ in range(20):
        steps = endless_steps[-1]
        watched.page.wait_for_timeout(400)
        if endless_steps[-1] == steps:
            break
    assert endless_steps[-1] == steps
    watched.complaints.clear()  # of the request that leaving cut off


def test_a_new_file_clears_the_old_result(watched):
    watched.upload(SPEECH)
    watched.run()
    watched.page.click("#speech [aria-label='Clear']")
    watched.page.wait_for_selector("#status .ch-idle")
    assert watched.text == ""
    assert watched.page.inner_text("#segments").strip() == ""
    expect(watched.page.locator("#run")).to_be_disabled()


def test_a_bad_file_gives_one_friendly_message(watched, tmp_path):
    bad = tmp_path / "not<b>audio.wav"
    bad.write_text("this is no audio")
    watched.upload(bad)
    watched.run("failed")
    said = watched.page.inner_text("#status")
    assert "WAV" in said
    assert "Traceback" not in said
    expect(watched.page.locator("#status .ch-failed")).to_have_count(1)
    watched.complaints.clear()  # the browser's own player cannot decode it either, and says so


def test_html_in_names_stays_text(watched):
    watched.says("#stack-note", "Writes <i>gibberish</i>.")
    assert watched.page.locator("#stack-note i").count() == 0


def test_a_component_is_swapped_or_refused_before_anything_loads(watched):
    page = watched.page
    page.click("#components > button")
    watched.pick("stage-encoder", "test/unfit")
    page.wait_for_selector("#fit .ch-failed")
    watched.says("#fit", "expects 7-dim features")
    watched.upload(SPEECH)
    watched.run("failed")
    watched.says("#status", "do not fit together")
    watched.pick("stage-encoder", "canary/fastconformer")
    watched.pick("stage-llm", "canary/qwen3-peft")
    page.wait_for_selector("#fit .ch-fits")
    watched.run()


def test_a_stack_that_was_just_picked_runs_with_its_own_parts(watched, endless_steps):
    page, runs = watched.page, len(endless_steps)
    watched.upload(SPEECH)
    with watched.held("endless") as held:
        watched.pick("stack", "Endless")
        page.click("#run")
        watched.has_written(6)
        assert held, "the parts shown are still those of the stack before"
        assert len(endless_steps) == runs + 1
        watched.stop()
        page.wait_for_selector("#status .ch-stopped")
    page.click("#components > button")
    expect(page.locator("#stage-llm input")).to_have_value("test/endless")


def test_the_last_of_two_quick_picks_is_shown(watched):
    page = watched.page
    page.click("#components > button")
    with watched.held("endless") as held:
        watched.pick("stack", "Endless")
        watched.pick("stack", "Nano")
        assert held
    watched.says("#stack-note", "trying the demo offline")
    expect(page.locator("#stage-llm input")).to_have_value("canary/qwen3")


def test_parts_that_were_not_trained_together_run_with_a_warning(watched):
    page = watched.page
    page.click("#components > button")
    watched.pick("stage-encoder", "test/foreign")
    page.wait_for_selector("#fit .ch-warned")
    watched.says("#fit", "trained")
    watched.says("#fit", "somebody <i>else</i>")
    watched.upload(SPEECH)
    watched.run()
    watched.says("#status", "Note:")
    watched.says("#status", "trained")


def test_options_are_used(watched):
    page = watched.page
    page.click("#components > button")
    page.fill("#option-canary-qwen3-max_new_tokens input[type=number]", "1")
    page.keyboard.press("Tab")
    watched.upload(SPEECH)
    watched.run()
    watched.says("#status", "1 token from")


def test_a_result_is_heard_from_a_segment_and_downloads_in_every_format(watched):
    page = watched.page
    watched.upload(LONG)
    watched.run()
    page.wait_for_selector("#downloads")
    for name, start in (("txt", ""), ("json", "["), ("srt", "1\n00:00:"), ("vtt", "WEBVTT"), ("csv", "file,start")):
        with page.expect_download() as download:
            page.click(f"#download-{name}")
        assert download.value.suggested_filename == f"long34.{name}"
        assert download.value.path().read_text("utf-8").startswith(start)
    expect(page.locator("#speech #time")).to_have_text("0:00")
    page.locator("#segments [data-seek]").first.evaluate("button => { button.dataset.seek = '20' }")
    page.click("#segments [data-seek]")
    expect(page.locator("#speech #time")).to_have_text(re.compile("0:[23]"))
    assert watched.text.strip()
    page.click("#stages summary")
    watched.says("#stages", "canary/fastconformer")
    page.click("#example")
    page.wait_for_selector("#status .ch-idle")
    page.wait_for_selector("#downloads", state="hidden")
    page.wait_for_selector("#run:not([disabled])")
    page.click("#sentence")
    expect(page.locator("#speech #duration")).to_have_text("0:03")


@pytest.mark.parametrize("language", ["en-GB", "de-DE", "zh-CN"])
def test_a_click_on_a_time_plays_in_every_language(watched, browser, language):
    """gradio labels its buttons in the visitor's language. A second click does not stop what plays."""
    watched = type(watched)(browser, watched.url, locale=language)
    page = watched.page
    watched.upload(LONG)
    watched.run()
    assert page.evaluate("navigator.language") == language
    play = page.locator("#speech .play-pause-button")
    paused = play.get_attribute("aria-label")
    assert (paused == "Play") == (language == "en-GB"), "gradio does not speak this language any more"
    page.locator("#segments [data-seek]").first.evaluate("button => { button.dataset.seek = '20' }")
    for _ in range(2):
        page.click("#segments [data-seek]")
        page.wait_for_timeout(400)
        expect(play).not_to_have_attribute("aria-label", paused)
    expect(page.locator("#speech #time")).to_have_text(re.compile("0:2"))
    watched.context.close()
    assert watched.complaints == []


def test_the_details_show_the_injection_and_seek(watched, tmp_path):
    page = watched.page
    watched.upload(AUDIO / "b0.wav")
    watched.run()
    assert page.query_selector("#details .ch-lane") is None
    page.check("#detailed input")
    watched.run()
    page.wait_for_selector("#details .ch-lane")
    counts = page.inner_text("#details .ch-count")
    assert counts == "10 text + 1 placeholder + 8 text = 19 tokens -> 10 + 39 + 8 = 57 embeddings"
    expect(page.locator("#details .ch-slot")).to_have_count(1)
    expect(page.locator("#details .ch-axis rect")).to_have_count(39)
    word = page.locator("#details .ch-word").last
    word.hover()
    assert page.locator("#details rect.ch-lit").count() >= 1
    assert float(word.get_attribute("data-seek")) > 0
    expect(page.locator("#speech #time")).to_have_text("0:00")
    word.evaluate("word => { word.dataset.seek = '2' }")
    word.click()
    expect(page.locator("#speech #time")).to_have_text(re.compile("0:0[2-9]"))
    with page.expect_download() as saving:
        page.click("#download-details")
    saving.value.save_as(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert (trace["version"], len(trace["segments"][0]["frames"])) == (1, 39)


def test_the_transcript_is_asked_where_the_llm_can_chat(watched):
    page = watched.page
    page.click("#ask > button")
    page.click("#ask-summarise")
    page.wait_for_selector("#answer .ch-failed")
    watched.says("#answer", "Transcribe something first")
    watched.upload(SPEECH)
    watched.run()
    page.fill("#ask-question textarea", "What <b>is</b> it?")
    page.click("#ask-question button")
    page.wait_for_selector("#answer .ch-answer, #answer .ch-note")
    page.wait_for_selector("#ask-summarise:not([disabled])")
    watched.pick("stack", "Endless")
    page.wait_for_selector("#ask-panel", state="hidden")
    watched.says("#ask-why", "test/endless writes transcripts only")


def test_the_registry_shows_what_is_installed(watched):
    page = watched.page
    page.get_by_role("tab", name="Registry").click()
    shown = page.inner_text(".ch-registry")
    for words in ("canary/fastconformer", "1024-dim hidden at 12.5 Hz", "page_stacks.py", "canary_broken", "Endless"):
        assert words in shown, words
    assert page.locator(".ch-registry i").count() == 0


def test_nano_reads_the_example_clip(watched):
    watched.pick("stack", "Nano")
    watched.page.click("#example")
    watched.page.wait_for_selector("#run:not([disabled])")
    watched.run()
    heard = sum(word in watched.text.split() for word in ("three", "one", "four", "five", "nine"))
    assert heard >= 4, watched.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling(browser, page_url, scheme):
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(page_url)
    page.wait_for_selector("#run")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Registry").click()
    page.wait_for_selector(".ch-registry")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
