"""Links: the address bar holds what the page shows, and a shared result opens without running anything."""

import re
import urllib.request
from pathlib import Path

import pytest
from chromium import TIMEOUT
from playwright.sync_api import expect

DIGIT = Path(__file__).parents[1] / "digits" / "three.flac"
THREE = "v=1&view=compare&lane=nano&lane=nano+llm%3Dcanary/qwen3-peft&lane=nano+max_new_tokens%3D5&details=on&at=once"


@pytest.fixture
def fresh(browser, page_url):
    """Opens a query in a browser that has never seen the page."""
    contexts = []

    def open(query: str):
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(TIMEOUT)
        page.goto(f"{page_url}/?{query}")
        page.wait_for_selector("#run, #shared", state="attached")
        return page

    yield open
    for context in contexts:
        context.close()


def query_with(page, part: str) -> str:
    """The address's query string, once it holds `part`."""
    page.wait_for_function(f"location.search.includes({part!r})")
    return page.evaluate("location.search.slice(1)")


def test_the_address_follows_what_is_picked_and_restores_it(watched, fresh):
    page = watched.page
    watched.pick("stack", "Nano")
    query_with(page, "stack=nano")
    page.click("#components > button")
    watched.pick("stage-llm", "canary/qwen3-peft")
    query_with(page, "llm=canary/qwen3-peft")
    page.click("#prompt > button")
    page.fill("#option-canary-chat-prompt-before textarea", "Say it & more: ")
    page.check("#detailed input")
    query_with(page, "details=on")
    query = query_with(page, "before=")
    assert query == "v=1&stack=nano&llm=canary/qwen3-peft&before=Say+it+%26+more:+&details=on"
    other = fresh(query + "&__theme=dark")
    expect(other.locator("#stack input")).to_have_value("Nano")
    expect(other.locator("#detailed input")).to_be_checked()
    other.click("#components > button")
    expect(other.locator("#stage-llm input")).to_have_value("canary/qwen3-peft")
    other.click("#prompt > button")
    expect(other.locator("#option-canary-chat-prompt-before textarea")).to_have_value("Say it & more: ")
    assert "__theme=dark" in other.evaluate("location.search")
    assert other.locator("#link-note").count() == 0


def test_messengers_see_our_title_and_description(page_url):
    html = urllib.request.urlopen(page_url).read().decode()
    assert re.findall('property="og:title" content="([^"]*)"', html) == ["canary_hub"]
    assert "speech-LLMs" in re.findall('property="og:description" content="([^"]*)"', html)[0]
    assert "Click to try out the app" not in html


def test_a_link_to_three_lanes_restores_them(fresh):
    page = fresh(THREE)
    page.wait_for_selector("#lane-3", state="visible")
    expect(page.locator("#lane-3-line textarea")).to_have_value("nano max_new_tokens=5")
    expect(page.locator("#lane-2-line textarea")).to_have_value("nano llm=canary/qwen3-peft")
    expect(page.locator("#lane-4")).to_be_hidden()
    expect(page.locator("#compare-detailed input")).to_be_checked()
    expect(page.locator("#compare-order input[value='At once']")).to_be_checked()
    page.click("#lane-1-duplicate")
    page.wait_for_function("new URLSearchParams(location.search).getAll('lane').length == 4")


def test_a_link_works_in_a_frame_of_another_page(browser, page_url):
    page = browser.new_page()
    page.set_default_timeout(TIMEOUT)
    page.set_content(f'<iframe src="{page_url}/?{THREE}" width="1200" height="800"></iframe>')
    inside = page.frame_locator("iframe")
    inside.locator("#lane-3").wait_for()
    inside.locator("#lane-1-duplicate").click()
    inside.locator("#lane-4").wait_for()
    page.close()


def test_what_a_link_names_in_vain_is_said(fresh):
    page = fresh("v=1&stack=nano&encoder=no/such<b>&max_new_tokens=9")
    page.wait_for_selector("#link-note .ch-failed")
    expect(page.locator("#link-note")).to_contain_text("no/such<b>", use_inner_text=True)
    page.click("#components > button")
    expect(page.locator("#option-canary-qwen3-max_new_tokens input[type=number]")).to_have_value("9")
    assert "version '7'" in fresh("v=7").wait_for_selector("#link-note .ch-failed").inner_text()


def test_the_page_and_its_embedding_are_copied(watched):
    page = watched.page
    watched.pick("stack", "Nano")
    query_with(page, "stack=nano")
    page.click("[data-copy-link='']")
    expect(page.locator("[data-copy-link='']")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    page.click("[data-copy-link='']")  # while it says so
    page.wait_for_timeout(2000)  # both clicks put the text back
    assert page.inner_text("[data-copy-link='']") == "Copy link"
    page.click("#embed > summary")
    page.click("[data-embed=iframe]")
    expect(page.locator("[data-embed=iframe]")).to_have_text("Copied")
    assert 'allow="microphone' in page.evaluate("navigator.clipboard.readText()")


@pytest.mark.parametrize("with_audio", [True, False])
def test_a_result_is_shared_opened_and_deleted(watched, fresh, with_audio):
    page = watched.page
    watched.pick("stack", "Nano")
    watched.upload(DIGIT)
    page.check("#detailed input")
    watched.run()
    page.wait_for_selector("#transcribe-share")
    page.click("#transcribe-share > button")
    if with_audio:
        page.check("#transcribe-share-audio input")
    page.click("#transcribe-share-button")
    link = page.wait_for_selector("#transcribe-shared a").get_attribute("href")
    key = page.inner_text("#transcribe-shared code")
    other = fresh(link.removeprefix("?"))
    other.wait_for_selector("#shared-body .ch-text")
    assert other.inner_text("#shared-body .ch-text") == watched.text
    expect(other.locator("#shared-body .ch-lane")).to_have_count(1)
    expect(other.locator("#shared-speech")).to_have_count(int(with_audio))
    expect(other.locator("#shared-body .ch-segments button")).to_have_count(int(with_audio))
    if with_audio:
        play = "document.querySelector('#shared-speech button[aria-label=\"Play\"]')"
        other.wait_for_function(play)
        other.evaluate(f"{play}.addEventListener('click', () => {{ window.played = true }})")
        other.click("#shared-body .ch-segments button")
        other.wait_for_function("window.played")
    expect(other.locator("#run")).to_be_hidden()
    assert link.removeprefix("?") in other.url
    other.click("#shared-delete > button")
    other.fill("#shared-key textarea, #shared-key input", "wrong")
    other.click("#shared-key button")
    other.wait_for_selector("#shared .ch-failed")
    other.fill("#shared-key textarea, #shared-key input", key)
    other.click("#shared-key button")
    other.wait_for_selector("#shared .ch-stopped")
    gone = fresh(link.removeprefix("?"))
    gone.wait_for_selector("#shared .ch-failed")
    expect(gone.locator("#shared")).to_contain_text("no shared result", use_inner_text=True)
