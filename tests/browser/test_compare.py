"""The Compare tab, driven in a real browser."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from canary_hub.compare import from_json, to_json
from canary_hub.compare.scoring import NORMALISERS, errors, word_diff

SPEECH = Path(__file__).parents[1] / "oracle" / "set_a" / "audio" / "speech.wav"


@pytest.fixture
def tab(watched):
    """The page with the Compare tab opened."""
    watched.page.get_by_role("tab", name="Compare").click()
    watched.page.wait_for_selector("#lane-2")
    return watched


def example(tab) -> None:
    tab.page.click("#compare-example")
    tab.page.wait_for_selector("#compare-run:not([disabled])")


def lines(tab, count: int) -> list[str]:
    """The cards' lanes, once there are so many."""
    expect(tab.page.locator(".ch-lanecard")).to_have_count(count)
    return [tab.page.input_value(f"#lane-{i}-line textarea") for i in range(1, count + 1)]


def say(tab, number: int, typed: str, line: str) -> None:
    """Type into a card's options and wait for its lane to be `line`."""
    page = tab.page
    if not page.is_visible(f"#lane-{number}-options textarea"):
        page.click(f"#lane-{number}-parts > button")
        page.wait_for_timeout(500)  # gradio sets a field's value once more after it has been shown
    page.fill(f"#lane-{number}-options textarea", typed)
    page.keyboard.press("Tab")
    expect(page.locator(f"#lane-{number}-line textarea")).to_have_value(line)


def compared(tab) -> None:
    tab.page.click("#compare-run")
    tab.page.wait_for_selector("#compare-status .ch-done")


def table(tab) -> dict[str, list[str]]:
    """The measures by the name of their row."""
    rows = tab.page.locator("#compare-measures tbody tr")
    cells = rows.evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))")
    return {name: values for name, *values in cells}


def shared(tab) -> dict[str, list[str]]:
    """Per lane, the rows marked as shared."""
    rows = table(tab)
    return {
        f"lane {i + 1}": [name for name, cells in rows.items() if cells and "shared" in cells[i]]
        for i in range(len(rows["All stages"]))
    }


def saved(tab, tmp_path) -> Path:
    with tab.page.expect_download() as saving:
        tab.page.click("#compare-json")
    saving.value.save_as(tmp_path / saving.value.suggested_filename)
    return tmp_path / saving.value.suggested_filename


def reopened(tab, file: Path) -> None:
    with tab.page.expect_file_chooser() as choosing:
        tab.page.click("#compare-open")
    choosing.value.set_files(file)
    tab.says("#compare-status", file.name)


def test_three_lanes_on_nano_share_what_is_alike(tab, tmp_path):
    page = tab.page
    expect(page.locator("#compare-run")).to_be_disabled()
    for number in (1, 2):
        say(tab, number, "nano", "nano")
    tab.pick("lane-2-llm", "canary/qwen3-peft")
    page.click("#lane-1-duplicate")
    assert lines(tab, 3)[2] == "nano"
    tab.pick("lane-3-projector", "canary/scaled")  # its parts are open
    say(tab, 3, "factor=0.5 max_new_tokens=3", "nano projector=canary/scaled factor=0.5 max_new_tokens=3")
    assert lines(tab, 3)[:2] == ["nano", "nano llm=canary/qwen3-peft"]
    example(tab)
    page.fill("#compare-reference textarea", "three one four one five nine")
    page.focus("#compare-run")
    page.keyboard.press("Enter")
    page.wait_for_selector("#compare-status .ch-done")
    before = ["Reading the audio", "Preprocessor", "Encoder"]
    assert shared(tab) == {"lane 1": [], "lane 2": [*before, "Projector"], "lane 3": before}
    rows = table(tab)
    assert [cell == "-" for cell in rows["Encoder output"]] == [True, False, False]
    assert rows["Encoder output"][1:] == ["the same", "the same"]
    assert rows["Audio embeddings"][2].startswith("max ")
    assert rows["First difference"][2] == "Audio embeddings"
    assert all("%" in cell for cell in rows["WER, raw"])
    # What the page shows is what the export holds, and the export opens again.
    file = saved(tab, tmp_path)
    assert file.name == "example.comparison.json"
    (comparison,) = from_json(file.read_text("utf-8"))
    assert [lane.lane for lane in comparison.lanes] == lines(tab, 3)
    assert page.inner_text("#compare-lanes li:nth-child(1) .ch-text") == comparison.lanes[0].text
    texts = page.inner_text("#compare-lanes")
    with page.expect_download() as saving:
        page.click("#compare-md")
    markdown = saving.value.path().read_text("utf-8")
    assert markdown.startswith("### digits.flac")
    page.click("#compare-markdown > button")
    expect(page.locator("#compare-text textarea")).to_have_value(markdown)
    page.reload()
    page.get_by_role("tab", name="Compare").click()
    reopened(tab, file)
    tab.says("#compare-status", "nothing was run")
    assert table(tab) == rows
    assert page.inner_text("#compare-lanes") == texts
    expect(page.locator("#compare-run")).to_be_disabled()


def test_differences_of_a_pair_made_by_hand(tab, tmp_path):
    page = tab.page
    example(tab)
    say(tab, 1, "nano", "nano")
    say(tab, 2, "nano", "nano")
    compared(tab)
    (found,) = from_json(saved(tab, tmp_path).read_text("utf-8"))
    first, second, said = "the quick brown fox", "the quick red fox <b>jumps</b>", "The fast brown fox."
    lanes = [
        replace(
            lane,
            segments=(replace(lane.segments[0], text=text),),
            errors={name: errors(said, text, name) for name in NORMALISERS},
            against_first=against and tuple(word_diff(first, text, "raw")),
            against_reference=tuple(word_diff(said, text)),
        )
        for lane, text, against in zip(found.lanes, (first, second), (None, True), strict=True)
    ]
    by_hand = tmp_path / "by hand.json"
    made = replace(found, file="fox.wav", lanes=tuple(lanes), reference=said)
    by_hand.write_text(to_json([made, found]), "utf-8")
    reopened(tab, by_hand)
    texts = page.locator("#compare-lanes .ch-text")
    assert texts.nth(0).inner_html() == first
    assert texts.nth(1).inner_html() == (
        'the quick <span class="ch-substituted"><del>brown</del> <ins>red</ins></span> fox '
        "<ins>&lt;b&gt;jumps&lt;/b&gt;</ins>"
    )
    page.get_by_label("Reference", exact=True).check()
    page.wait_for_selector("#compare-lanes li:first-child .ch-text del")
    assert texts.nth(0).inner_html() == (
        'the <span class="ch-substituted"><del>fast</del> <ins>quick</ins></span> brown fox'
    )
    assert table(tab)["WER, normalised"][0] == "25.0% 1 of 4"
    tab.pick("compare-which", "digits.flac")
    tab.says("#compare-status", "digits.flac")
    assert texts.nth(0).inner_text() == found.lanes[0].text
    assert "WER, normalised" not in table(tab)


def test_a_lane_that_fails_says_why_in_its_place(tab):
    example(tab)
    say(tab, 1, "nano", "nano")
    say(tab, 2, "nano encoder=test/broken", "nano encoder=test/broken")
    tab.page.wait_for_selector("#lane-2-note .ch-warned")
    tab.page.click("#lane-1-duplicate")
    lines(tab, 3)
    compared(tab)
    tab.says("#compare-status", "1 lane failed")
    failed = tab.page.locator("#compare-lanes li").nth(1)
    assert "This encoder is <b>never</b> built." in failed.inner_text()
    assert failed.locator("b").count() == 0
    for i in (0, 2):
        assert tab.page.locator("#compare-lanes li").nth(i).locator(".ch-text").inner_text()
    assert shared(tab)["lane 3"] == ["Reading the audio", "Preprocessor", "Encoder", "Projector"]
    assert table(tab)["Tokens"][1] == "-"


def test_what_is_no_lane_is_told_before_anything_runs(tab):
    example(tab)
    say(tab, 2, "max_new_tokens=5 weights.canary=/etc", "")
    tab.says("#lane-2-note", "Folders")
    tab.page.click("#compare-run")
    tab.page.wait_for_selector("#compare-status .ch-failed")
    tab.says("#compare-status", "Lane 2:")


@pytest.mark.parametrize("order", ["One after another", "At once"])
def test_stop_stops_all_lanes_and_keeps_their_texts(tab, endless_steps, order):
    page = tab.page
    page.set_input_files("#compare-speech input[type=file]", SPEECH)
    page.wait_for_selector("#compare-run:not([disabled])")
    for number in (1, 2):
        say(tab, number, "endless", "endless")
    page.get_by_label(order).check()
    page.click("#compare-run")
    expect(page.locator("#compare-lanes .ch-text").first).to_have_text(re.compile(".{21}"))
    assert page.is_disabled("#compare-run")
    tab.stop("#compare-stop")
    page.wait_for_selector("#compare-status .ch-stopped")
    steps = list(endless_steps)
    time.sleep(0.5)
    assert all(after <= before + 5 for before, after in zip(steps, endless_steps, strict=True))
    expect(page.locator("#compare-lanes li.ch-is-stopped")).to_have_count(2)
    assert len(page.locator("#compare-lanes .ch-text").first.inner_text()) > 20
    page.wait_for_selector("#compare-run:not([disabled])")
    page.wait_for_selector("#compare-export", state="hidden")


def test_the_next_comparison_waits_until_all_of_the_last_one_is_shown(tab):
    example(tab)
    with tab.held_at_its_end(lambda: compared(tab)):
        assert tab.page.is_disabled("#compare-run"), "a late answer would take the place of the next one's"
    expect(tab.page.locator("#compare-run")).to_be_enabled()


def test_a_lane_whose_stack_was_just_picked_runs_with_its_own_parts(tab, endless_steps):
    page, runs = tab.page, len(endless_steps)
    example(tab)
    with tab.held("endless") as held:
        tab.pick("lane-1-stack", "Endless")
        page.click("#compare-run")
        expect(page.locator("#compare-lanes .ch-text").first).to_have_text(re.compile(".{6}"))
        assert held, "the parts shown are still those of the stack before"
        assert len(endless_steps) == runs + 1
        tab.stop("#compare-stop")
        page.wait_for_selector("#compare-status .ch-stopped")
    expect(page.locator("#lane-1-line textarea")).to_have_value("endless")


def test_cards_come_and_go_and_presets_fill_them(tab):
    page = tab.page
    expect(page.get_by_role("group", name="Lane 2")).to_have_count(1)
    expect(page.locator("#lane-1-remove")).to_be_disabled()
    page.click("#lane-2-duplicate")
    third = lines(tab, 3)[2]
    assert third == lines(tab, 3)[1]
    page.click("#lane-3-duplicate")
    lines(tab, 4)
    page.wait_for_selector("#lane-1-duplicate[disabled]")
    say(tab, 4, "max_new_tokens=7", f"{third} max_new_tokens=7")
    page.click("#lane-2-remove")
    assert lines(tab, 3)[2] == f"{third} max_new_tokens=7"
    tab.pick("lane-1-stack", "Nano")
    expect(page.locator("#lane-1-line textarea")).to_have_value("nano")
    page.click("#preset-1")
    expect(page.locator("#lane-3-line textarea")).to_have_value("nano adapter=false")
    assert lines(tab, 3) == ["nano", "nano llm=canary/qwen3-peft", "nano adapter=false"]
    page.click("#preset-3")
    assert lines(tab, 2) == ["nano", "nano prompt-template=canary/chat-prompt-audio"]


def test_the_details_of_all_lanes_play_this_tabs_audio(tab):
    page = tab.page
    example(tab)
    say(tab, 1, "nano", "nano")
    say(tab, 2, "nano prompt-template=canary/chat-prompt-audio", "nano prompt-template=canary/chat-prompt-audio")
    page.check("#compare-detailed input")
    compared(tab)
    page.wait_for_selector("#compare-details .ch-axis")
    expect(page.locator("#compare-details .ch-axis")).to_have_count(1)
    expect(page.locator("#compare-details .ch-run")).to_have_count(2)
    word = page.locator("#compare-details .ch-word").first
    word.hover()
    bands = page.locator("#compare-details .ch-axis .ch-band")
    assert bands.nth(0).locator(".ch-lit").count() == bands.nth(1).locator(".ch-lit").count() >= 1
    word.evaluate("word => { word.dataset.seek = '1' }")
    word.click()
    expect(page.locator("#compare-speech #time")).to_have_text(re.compile("0:0[1-9]"))


def test_a_new_file_clears_the_result(tab):
    example(tab)
    say(tab, 1, "nano", "nano")
    say(tab, 2, "nano", "nano")
    compared(tab)
    tab.page.wait_for_selector("#compare-export")
    tab.page.click("#compare-speech [aria-label='Clear']")
    tab.page.wait_for_selector("#compare-status .ch-idle")
    tab.page.wait_for_selector("#compare-export", state="hidden")
    assert tab.page.inner_text("#compare-lanes").strip() == ""
    expect(tab.page.locator("#compare-run")).to_be_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_four_lanes_without_sideways_scrolling(browser, page_url, scheme):
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(page_url)
    page.wait_for_selector("#run")
    page.get_by_role("tab", name="Compare").click()
    page.click("#lane-2-duplicate")
    page.wait_for_selector("#lane-3")
    page.click("#lane-3-duplicate")
    page.wait_for_selector("#lane-4")
    page.click("#compare-example")
    page.wait_for_selector("#compare-run:not([disabled])")
    page.check("#compare-detailed input")
    page.click("#compare-run")
    page.wait_for_selector("#compare-status .ch-done")
    page.wait_for_selector("#compare-measures table")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
