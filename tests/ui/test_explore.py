"""The Explore tab's parts that need no browser: moments, charts, tables, the words explained."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from canary_hub.errors import HubError
from canary_hub.explore import EXPLORATIONS, explore
from canary_hub.explore.report import Chart, Section, Series, Table, sections
from canary_hub.ui.explore import html as explore_sections
from canary_hub.ui.explore import runs as explore_runs
from canary_hub.ui.explore.charts import drawn, ticks
from canary_hub.ui.explore.glossary import SPECIAL, Explained, Words
from canary_hub.ui.explore.html import shown
from canary_hub.ui.explore.runs import Key, computes, run_exploration
from canary_hub.ui.widgets.templates import ENVIRONMENT, render

EVIL = "<img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """Tags with their attributes, the text, and beside it that of the tooltips."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[tuple[str, bool]] = []
        self.text, self.tips = "", ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.tags.append((tag, dict(attrs)))
        if tag != "wbr":
            self.open.append((tag, dict(attrs).get("role") == "tooltip"))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if any(tooltip for _, tooltip in self.open):
            self.tips += data
        else:
            self.text += data

    def of(self, tag, **wanted):
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in wanted.items()}
        return [a for t, a in self.tags if t == tag and all(a.get(name) == value for name, value in wanted.items())]


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))


# --- moments


@pytest.mark.parametrize("stack", ["nano", "canary-qwen-2.5b"])
@pytest.mark.parametrize("name", EXPLORATIONS)
def test_every_exploration_ends_with_what_the_command_finds(hub, name, stack, no_cache):
    key = Key(stack, name)
    assert computes(hub, key) == (stack == "nano" and name not in ("structure", "weights"))
    seen = list(run_exploration(hub, key))
    assert seen[0].state == "busy"
    assert seen[0].message
    assert [moment.state for moment in seen].count("done") == 1
    found = seen[-1].found
    assert found.exploration == name
    assert found.stack == stack
    html = shown(found, "Title")
    page = Page(html)
    for section in sections(found):
        if section.title == "What is not shown":
            continue
        assert section.title in page.text
        for table in section.tables:
            for cell in (cell for row in table.rows for cell in row):
                assert cell.strip() in page.text
        for chart in section.charts:
            assert chart.title in page.text
    for limit in found.limits:
        assert limit.replace("`", "") in page.text
    assert ("What is not shown here" in page.text) == bool(found.limits)


def test_an_unloaded_model_is_not_loaded_to_be_told_that_it_has_no_adapter(hub, monkeypatch):
    monkeypatch.setattr(explore_runs.Subject, "in_published_layout", False)
    monkeypatch.setattr(explore_runs, "load", pytest.fail)
    assert not computes(hub, Key("nano", "lora"))
    last = list(run_exploration(hub, Key("nano", "lora")))[-1]
    assert last.state == "failed"
    assert "no LoRA" in last.message
    assert "nano" in last.hint


@pytest.mark.parametrize("name", ["lora", "injection", "generation"])
def test_bad_audio_is_told_before_anything_loads(hub, name, tmp_path, monkeypatch):
    monkeypatch.setattr(explore_runs, "load", pytest.fail)
    (tmp_path / "a.wav").write_text("text")
    for file, said in (("a.wav", "WAV"), ("gone.wav", "deleted")):
        last = list(run_exploration(hub, Key("nano", name, str(tmp_path / file))))[-1]
        assert last.state == "failed"
        assert said in last.message + last.hint


def test_the_clip_given_is_heard(hub, oracle):
    given = list(run_exploration(hub, Key("nano", "injection", str(oracle / "audio" / "slice1p3.wav"))))[-1].found
    example = list(run_exploration(hub, Key("nano", "injection")))[-1].found
    assert given.clip == "slice1p3.wav"
    assert example.clip == "digits.flac"
    assert given.frames < example.frames


def test_what_nobody_expected_shows_no_traceback(hub, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("secret/path")

    monkeypatch.setattr(explore_runs, "explore", broken)
    last = list(run_exploration(hub, Key("nano", "structure")))[-1]
    assert last.state == "failed"
    assert "secret" not in last.message + last.hint


# --- tables, limits


def section_html(monkeypatch, section: Section, found) -> Page:
    monkeypatch.setattr(explore_sections, "sections", lambda found: [section])
    return Page(shown(replace(found, limits=()), "Title"))


@pytest.fixture(scope="module")
def structure(hub):
    return explore("structure", hub, "nano")


def test_everything_shown_is_escaped(structure, monkeypatch):
    bars = Chart("a", EVIL, "bar", EVIL, EVIL, (Series(EVIL, (EVIL,), (1.0,)), Series(EVIL, (EVIL,), (1.0,))))
    lines = Chart("b", EVIL, "line", EVIL, EVIL, tuple(Series(EVIL, (0.0, 1.0), (0.0, 1.0)) for _ in range(2)))
    tables = (Table((EVIL, "token"), ((EVIL, EVIL),), title=EVIL), Table((EVIL,), ((EVIL,),) * 30, title=EVIL))
    section = Section(EVIL, EVIL, tables, (bars, lines))
    page = section_html(monkeypatch, section, replace(structure, stack=EVIL))
    assert not page.of("img")
    assert page.text.count(EVIL) > 30
    html = shown(replace(structure, limits=(f"`{EVIL}` {EVIL}",)), EVIL)
    assert "<img" not in html


def test_the_tree_is_indented_and_its_rows_are_named(structure):
    html = shown(structure, "Structure")
    depths = [float(d) for d in re.findall(r'padding-left:([\d.]+)rem">[\w-]', html)]
    assert depths[:2] == [0, 1]
    assert max(depths) >= 4
    page = Page(html)
    assert len(page.of("th", scope="row")) > 15
    for region in page.of("div", role="region"):
        assert region["tabindex"] == "0"
        assert region["aria-label"]


def test_long_tables_are_folded_and_short_ones_are_not(structure, monkeypatch):
    rows = tuple((str(i), "b") for i in range(60))
    for count, folded in ((60, 1), (24, 0)):
        page = section_html(monkeypatch, Section("a", "b.", (Table(("n", "c"), rows[:count]),)), structure)
        assert len(page.of("details")) == folded
        assert len(page.of("tr")) == count + 1


# --- charts


def draw(chart: Chart) -> str:
    return render("explore/chart.html", chart=drawn(chart))


def test_bars_are_as_long_as_their_numbers():
    chart = Chart("a", "Sizes", "bar", "", "GiB", (Series("s", ("one", "two", "none"), (1.0, 4.0, 0.0)),))
    page = Page(draw(chart))
    assert [a["style"] for a in page.of("span", class_="ch-series0")] == [
        "width:25.00%",
        "width:100.00%",
        "width:0.00%",
    ]
    assert page.text == "Sizesone1two4none0GiB"


def test_stacked_bars_say_their_parts():
    series = (Series("padding", ("a", "b"), (0.0, 3.0)), Series("audio", ("a", "b"), (4.0, 1.0)))
    page = Page(draw(Chart("a", "Batch", "bar", "", "position", series)))
    assert [a["style"] for a in page.of("span", class_="ch-nothing")] == ["width:0.00%", "width:75.00%"]
    assert [a["style"] for a in page.of("span", class_="ch-series0")] == ["width:100.00%", "width:25.00%"]
    assert "3 padding, 1 audio" in page.text


def test_lines_run_through_their_points():
    series = (Series("q", (0.0, 1.0, 2.0), (0.0, 5.0, 10.0)), Series("v", (0.0, 2.0), (10.0, 2.5)))
    page = Page(draw(Chart("a", "Norms", "line", "layer", "norm", series)))
    assert [a["points"] for a in page.of("polyline")] == [
        "0.00,100.00 50.00,50.00 100.00,0.00",
        "0.00,0.00 100.00,75.00",
    ]
    (plot,) = page.of("div", role="img")
    assert (
        plot["aria-label"]
        == "norm over layer. q: from 0 at 0 to 10 at 2, at most 10; v: from 10 at 0 to 2.5 at 2, at most 10."
    )
    assert "0.5" not in page.text, "there is no layer and a half"


def test_many_lines_are_a_ramp_with_its_ends_named():
    series = tuple(Series(f"layer {i}", (1.0, 2.0), (1.0, 0.5)) for i in range(28))
    page = Page(draw(Chart("a", "Values", "line", "index", "value", series)))
    at = [a["style"] for a in page.of("polyline", class_="ch-ramp")]
    assert (len(at), at[0], at[-1]) == (28, "--at:0.000", "--at:1.000")
    assert "layer 0" in page.text
    assert "layer 27" in page.text
    assert "layer 13" not in page.text


def test_a_chart_of_one_point_or_of_zeros_can_be_drawn():
    for y in ((0.0,), (3.0,)):
        page = Page(draw(Chart("a", "One", "line", "token", "ms", (Series("ms", (1.0,), y),))))
        assert "nan" not in str(page.tags)
    page = Page(draw(Chart("a", "Zeros", "bar", "", "GiB", (Series("s", ("a",), (0.0,)),))))
    assert page.of("span", class_="ch-series0")[0]["style"] == "width:0.00%"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 0.8, [0, 0.2, 0.4, 0.6, 0.8]),
        (1, 7, [0, 2, 4, 6, 8]),
        (0, 4096, list(range(0, 5001, 1000))),
    ],
)
def test_ticks_are_round_and_enclose(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


# --- words


def spelled(pieces: list[Explained]) -> str:
    return ENVIRONMENT.from_string('{% from "explore/macros.html" import words %}{{ words(pieces) }}').render(
        pieces=pieces
    )


def test_a_word_is_explained_once_and_the_longest_match_wins():
    words = Words("lora", "tip")
    pieces = words("Audio embeddings and embeddings; the rank, and the RANK again.") + words("rank")
    page = Page(spelled(pieces))
    assert len(page.of("button", type="button")) == len(page.of("span", role="tooltip")) == 3
    tips = {a["id"] for a in page.of("span", role="tooltip")}
    assert {a["aria-describedby"] for a in page.of("button")} == tips
    assert page.tips.count("The thin side of the two matrices") == 1
    assert "The vectors that the encoder" in page.tips


def test_words_are_whole_and_never_inside_special_tokens():
    pieces = Words("injection", "tip")("<|audioplaceholder|> placeholders multipiece")
    assert spelled(pieces) == "&lt;|audioplaceholder|&gt; placeholders multipiece"


@pytest.mark.parametrize("name", EXPLORATIONS)
def test_the_explained_words_occur(hub, name):
    html = shown(explore(name, hub, "nano"), "Title")
    assert SPECIAL.keys() == EXPLORATIONS.keys()
    used = sum(meaning.split(";")[0].split("'")[0] in html for meaning in SPECIAL[name].values())
    assert used >= 0.7 * len(SPECIAL[name])
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(ids) == len(set(ids))


# --- the tab


def test_what_was_shown_is_kept_but_not_without_end(hub):
    from canary_hub.ui.explore.tab import KEPT, LastExploration, _after

    moment = list(run_exploration(hub, Key("nano", "structure")))[-1]
    last = LastExploration(Key("nano", None), moment)
    for i in range(KEPT + 5):
        last = _after(Key("nano", "structure", str(i)), moment, last)
    assert [key.audio for key, _ in last.kept] == [str(i) for i in range(5, KEPT + 5)]
    again = _after(Key("nano", "structure", "9"), moment, last)
    assert len(again.kept) == KEPT
    assert again.kept[-1][0].audio == "9"


def test_found_is_json_with_every_figure(hub):
    found = list(run_exploration(hub, Key("nano", "generation")))[-1].found
    assert json.loads(json.dumps(found.to_json()))["written"]


def test_a_stack_whose_files_cannot_be_told_is_a_note(hub, monkeypatch):
    import gradio as gr

    from canary_hub.ui.explore.tab import ExploreTab

    def refuse(self):
        raise HubError("Broken <b>stack</b>.", "")

    monkeypatch.setattr("canary_hub.explore.subject.Subject.missing", property(refuse))
    with gr.Blocks():
        tab = ExploreTab(hub, "nano")
    assert "Broken &lt;b&gt;stack&lt;/b&gt;." in tab.note.value
    assert not computes(hub, Key("nano", "lora"))
