"""The Compare tab's parts that need no browser: forms and lanes, moments, what is shown, and saved files."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from canary_hub.compare import (
    Comparison,
    Distance,
    FailedLane,
    LaneResult,
    LaneStage,
    first_difference,
    to_json,
    to_markdown,
)
from canary_hub.compare.scoring import NORMALISERS, errors, word_diff
from canary_hub.errors import HubError, OptionError, UnknownNameError
from canary_hub.lanes import Lane, parse_lane
from canary_hub.run.result import Frame, PromptToken, SegmentResult, SegmentTrace, Trace, WordTrace
from canary_hub.specs import Stage
from canary_hub.ui.compare import forms as compare_forms
from canary_hub.ui.compare import html as compare_results
from canary_hub.ui.compare import runs as compare_runs
from canary_hub.ui.compare import tab as compare_tab
from canary_hub.ui.compare.forms import PRESETS, LaneForm, known_options, numbered, preset, visitors_lane
from canary_hub.ui.compare.runs import CompareMoment, opened, run_lanes
from canary_hub.ui.transcribe.tab import EXAMPLE
from canary_hub.ui.widgets.details import side_by_side
from canary_hub.ui.widgets.templates import render

EVIL = "<img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """Tags, text, and the cells of the table rows by their heading."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.rows: dict[str, list[str]] = {}
        self._cells: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag == "tr":
            self._cells = []
        elif tag in ("th", "td") and self._cells is not None:
            self._cells.append("")

    def handle_endtag(self, tag):
        if tag == "tr":
            self.rows[self._cells[0].strip()] = [cell.strip() for cell in self._cells[1:]]
            self._cells = None

    def handle_data(self, data):
        self.text += data
        if self._cells:
            self._cells[-1] += data


def lane_result(line: str, text: str, first: str | None = None, reference: str | None = None, **more) -> LaneResult:
    stages = {"audio": LaneStage(None, 0.01)}
    stages |= {stage.value: LaneStage(f"own/{stage.value}", 0.02, parameters=10, nbytes=2**20) for stage in Stage}
    return LaneResult(
        **{
            "lane": line,
            "stack": "nano",
            "components": {stage.value: f"own/{stage.value}" for stage in Stage},
            "options": {},
            "dtype": "float32",
            "segments": (SegmentResult(0, 2, text, tokens=3, confidence=0.9),),
            "stages": stages,
            "first_token_seconds": 0.05,
            "errors": {n: errors(reference, text, n) for n in NORMALISERS} if reference else {},
            "against_reference": tuple(word_diff(reference, text)) if reference else None,
            "against_first": None if first is None else tuple(word_diff(first, text, "raw")),
            **more,
        }
    )


@pytest.fixture
def comparison() -> Comparison:
    """By hand: the fox turns red and jumps; lane 3 failed."""
    first, second, reference = "the quick brown fox", "the quick red fox jumps", "The quick fox."
    swapped = {
        **lane_result("", "").stages,
        "encoder": LaneStage("own/encoder", 0.02, shared=True),
        "llm": LaneStage("other/llm", 0.5),
    }
    distances = {
        "preprocessor": Distance(0.0, 0.0),
        "encoder": Distance(0.0, 0.0),
        "projector": Distance(0.25, 0.001),
        "prompt-template": Distance(reason="another shape: 2 x 4 instead of 3 x 4"),
    }
    return Comparison(
        "fox.wav",
        2.0,
        (
            lane_result("nano", first, reference=reference),
            lane_result("nano llm=other/llm", second, first, reference, stages=swapped, distances=distances),
            FailedLane("nano encoder=bad/one", "It broke.", "Mend it."),
        ),
        reference,
    )


# --- forms and lanes


def test_a_form_says_only_what_differs_from_the_stack(hub):
    own = dict(hub.registry.stack("nano").components)
    assert str(LaneForm("nano", own).lane(hub)) == "nano"
    swapped = {**own, Stage.LLM: "canary/qwen3-peft"}
    form = LaneForm("nano", swapped, "bfloat16", "max_new_tokens=5 before='Say it: '")
    line = 'nano llm=canary/qwen3-peft max_new_tokens=5 before="Say it: " dtype=bfloat16'
    assert form.lane(hub) == parse_lane(line)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("llm=canary/qwen3 seed=1", "nano llm=canary/qwen3 seed=1 dtype=bfloat16"),
        ("dtype=float32", "nano llm=canary/qwen3-peft dtype=float32"),
        ("canary-qwen-2.5b seed=2", "canary-qwen-2.5b seed=2"),
    ],
)
def test_what_is_typed_overrules_what_is_picked(hub, typed, line):
    own = hub.registry.stack("nano").components
    form = LaneForm("nano", {**own, Stage.LLM: "canary/qwen3-peft"}, "bfloat16", typed)
    lane = form.lane(hub)
    assert lane == parse_lane(line)
    shown = LaneForm.of(hub, lane)
    assert "=" not in shown.typed.replace("seed=", "")
    assert hub.stack(shown.lane(hub)) == hub.stack(lane)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("max_new_tokens", "key=value"),
        ('before="x', "quote"),
        ("weights.canary=/etc", "Folders"),
        ("dtype=int3", "int3"),
    ],
)
def test_what_cannot_be_a_lane_is_told_with_its_number(hub, typed, said):
    good = LaneForm("nano")
    with pytest.raises(HubError, match=f"Lane 2: .*{said}"):
        numbered(hub, [good, replace(good, typed=typed)])


def test_a_visitor_names_no_folders_and_only_stacks_that_exist(hub):
    with pytest.raises(OptionError, match="Folders"):
        visitors_lane(hub, "nano weights.canary=/secret")
    with pytest.raises(UnknownNameError, match="nanoo"):
        visitors_lane(hub, "nanoo")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_lanes_that_fit(hub, name):
    forms = preset(hub, name, "nano")
    lines = [str(form.lane(hub)) for form in forms]
    assert 2 <= len(set(lines)) == len(lines) <= 4
    for form in forms:
        assert not hub.check(form.lane(hub)).problems


def test_a_preset_starts_from_the_stack_of_lane_1(hub):
    lines = [str(form.lane(hub)) for form in preset(hub, PRESETS[0], "canary-qwen-2.5b")]
    assert lines == ["canary-qwen-2.5b", "canary-qwen-2.5b llm=canary/qwen3-peft", "canary-qwen-2.5b adapter=false"]


def test_a_preset_without_its_components_is_none(hub, monkeypatch):
    monkeypatch.setattr(compare_forms, "LIVE", "no/such")
    assert preset(hub, PRESETS[0], "nano") == []


def test_options_are_named_with_their_stage_where_they_are_ambiguous(hub):
    known = {name: default for name, default, _ in known_options(hub, Lane("nano"))}
    assert known["max_new_tokens"] == "448"
    assert known["adapter"] == "true"
    assert known["before"] == '"Transcribe the following:"'
    local = Lane("nano", {Stage.ENCODER: "canary/fastconformer-local"})
    assert "left_context" in {name for name, _, _ in known_options(hub, local)}


# --- moments


@pytest.mark.parametrize("in_turn", [True, False])
def test_a_run_ends_with_a_comparison_and_a_failed_lane_does_not_stop_it(hub, in_turn, monkeypatch):
    monkeypatch.setattr(compare_runs, "SHOW_EVERY", 0)
    lanes = [Lane("nano"), Lane("nano", options={"nonsense": "1"}), Lane("nano", options={"max_new_tokens": "2"})]
    moments = list(run_lanes(hub, lanes, str(EXAMPLE), "three", in_turn=in_turn))
    last = moments[-1]
    assert last.state == "done"
    (found,) = last.comparisons
    assert [lane.state for lane in last.lanes] == [lane.state for lane in found.lanes] == ["done", "failed", "done"]
    assert last.lanes[0].text == found.lanes[0].text
    assert "nonsense" in last.lanes[1].message
    assert found.in_turn is in_turn
    assert found.reference == "three"
    assert all(moment.state == "busy" for moment in moments[:-1])
    texts = [moment.lanes[0].text for moment in moments if moment.lanes[0].text]
    assert len(set(texts)) > 1, "the text grows"


def test_no_audio_and_bad_audio_are_messages(hub, tmp_path):
    lanes = [Lane("nano"), Lane("nano")]
    (tmp_path / "a.wav").write_text("text")
    for audio, said in ((None, "no audio"), (str(tmp_path / "gone.wav"), "deleted"), (str(tmp_path / "a.wav"), "WAV")):
        last = list(run_lanes(hub, lanes, audio))[-1]
        assert last.state == "failed"
        assert said in last.message + last.hint


def test_a_stopped_run_keeps_its_texts_and_says_so(hub, monkeypatch):
    monkeypatch.setattr(compare_runs, "SHOW_EVERY", 0)
    run = run_lanes(hub, [Lane("nano"), Lane("nano", options={"max_new_tokens": "3"})], str(EXAMPLE))
    moment = next(moment for moment in run if moment.lanes[0].text)
    run.close()
    stopped = moment.stopped()
    assert stopped.state == "stopped"
    assert {lane.state for lane in stopped.lanes} == {"stopped"}
    assert stopped.lanes[0].text == moment.lanes[0].text


# --- what is shown


def test_differences_are_marked_in_words_and_signs():
    pieces = word_diff("the cat that sat on the mat", "a cat sat on the mat now", "raw")
    html = render("compare/differences.html", pieces=pieces)
    assert html == (
        '<span class="ch-substituted"><del>the</del> <ins>a</ins></span> cat <del>that</del> sat on the mat '
        "<ins>now</ins>"
    )
    assert compare_results.tally(pieces) == "3 differences: 1 substituted, 1 inserted, 1 deleted."
    assert compare_results.tally(word_diff("a b", "a b", "raw")) == "The same words."
    assert "<b>" not in render("compare/differences.html", pieces=word_diff("a", "<b>", "raw"))


def test_transcripts_are_told_against_lane_1_or_the_reference(comparison):
    first = compare_results.transcripts(comparison)
    assert '<span class="ch-substituted"><del>brown</del> <ins>red</ins></span> fox <ins>jumps</ins>' in first
    assert "It broke." in first
    assert "Mend it." in first
    other = compare_results.transcripts(comparison, compare_results.REFERENCE)
    assert "the quick <ins>brown</ins> fox" in other
    assert "the quick <ins>red</ins> fox <ins>jumps</ins>" in other
    assert "normaliser" in other


def test_where_lane_1_failed_the_others_still_show_their_text(comparison):
    lanes = (comparison.lanes[2], replace(comparison.lanes[1], against_first=None))
    html = compare_results.transcripts(replace(comparison, lanes=lanes, reference=None))
    assert "the quick red fox jumps" in html
    assert "nothing to compare to" in html


def test_the_table_marks_what_was_shared_and_what_was_swapped(comparison):
    rows = Page(compare_results.measures(comparison)).rows
    shared = [name for name, cells in rows.items() if any("shared" in cell for cell in cells)]
    assert shared == ["Encoder"]
    assert rows["Encoder"] == ["20 ms", "20 ms shared", "-"]
    assert rows["LLM backend"] == ["20 ms", "500 msother/llm", "-"]
    assert rows["WER, normalised"] == ["33.3% 1 of 3", "66.7% 2 of 3", "-"]
    assert rows["Times real time"] == ["18.18", "3.39", "-"]
    assert rows["Audio embeddings"] == ["-", "max 2.5e-01cosine 1.0e-03", "-"]
    assert rows["First difference"] == ["-", "Audio embeddings", "-"]


def test_without_a_reference_there_are_no_errors_to_show(comparison):
    lanes = tuple(replace(lane, errors={}) for lane in comparison.lanes[:2])
    found = replace(comparison, reference=None, lanes=lanes)
    assert "WER, normalised" not in Page(compare_results.measures(found)).rows
    assert "WER" not in to_markdown([found])


def test_the_first_difference_may_be_the_text_or_not_known(comparison):
    second = comparison.lanes[1]
    same = {stage: Distance(0.0, 0.0) for stage in second.distances}
    assert first_difference(replace(second, distances=same)) == "Text"
    equal = replace(second, distances=same, against_first=tuple(word_diff("a", "a", "raw")))
    assert first_difference(equal) == "none seen"
    unknown = {stage: Distance(reason="lane 1 failed") for stage in second.distances}
    assert first_difference(replace(second, distances=unknown)) == ""
    shape = {**same, "prompt-template": second.distances["prompt-template"]}
    assert first_difference(replace(second, distances=shape)) == "inputs_embeds"


def trace(start: float = 0.0) -> Trace:
    segment = SegmentTrace(
        start=start,
        end=start + 0.8,
        prompt=(PromptToken(5, EVIL), PromptToken(99, "<|audioplaceholder|>", True)),
        frames=tuple(Frame(float(i)) for i in range(10)),
        frame_seconds=0.08,
        words=(WordTrace(EVIL, 0, 1, start + 0.1, start + 0.4),),
        attention=((0.1,) * 10,),
        log_mel=((0, 128, 255),) * 4,
    )
    return Trace(EVIL, 0.8, EVIL, {"encoder": EVIL}, segments=[segment])


def test_details_of_lanes_are_on_one_time_axis():
    html = side_by_side([("Lane 1", trace()), (EVIL, trace())])
    assert html.count("ch-ticks") == 1
    assert html.count("Log-mel features") == 1, "the same features are shown once"
    assert html.count(">Frames<") == html.count(">Words<") == 2
    assert "<img src=x" not in html
    assert html.count('class="ch-lane"') == 1, "pointing at a frame lights up the other lane's too"


def test_other_features_are_shown_for_each_lane_and_other_cuts_apart():
    other = trace()
    other.segments[0].log_mel = ((1, 2, 3),) * 4
    assert side_by_side([("Lane 1", trace()), ("Lane 2", other)]).count("Log-mel features") == 2
    apart = side_by_side([("Lane 1", trace()), ("Lane 2", trace(1.0))])
    assert apart.count("ch-ticks") == 2
    assert "no time axis in common" in apart
    assert side_by_side([]) == ""


def test_nothing_in_a_saved_file_becomes_markup(comparison, tmp_path):
    def spoil(value):
        if isinstance(value, str):
            return value if value in ("done", "failed", "equal", "insert", "delete", "substitute") else EVIL
        if isinstance(value, dict):
            return {key if key in keep else EVIL: spoil(each) for key, each in value.items()}
        return [spoil(each) for each in value] if isinstance(value, list) else value

    traced = replace(comparison.lanes[0], trace=trace(), warnings=(EVIL,))
    document = json.loads(to_json([replace(comparison, lanes=(traced, *comparison.lanes[1:]))]))
    keep = set(json.dumps(document).replace('"', " ").split())
    document["comparisons"] = spoil(document["comparisons"])
    saved = tmp_path / "x.json"
    saved.write_text(json.dumps(document))
    moment = opened(str(saved), EVIL)
    assert moment.state == "done", moment.message
    (found,) = moment.comparisons
    html = compare_results.status(moment) + compare_results.measures(found)
    html += compare_results.transcripts(found) + compare_results.transcripts(found, compare_results.REFERENCE)
    html += side_by_side([("Lane 1", found.lanes[0].trace)])
    assert found.lanes[0].lane == EVIL
    assert "<img src=x" not in html
    Page(html)


# --- saved files


def test_an_export_opens_as_what_it_was(comparison, tmp_path):
    (tmp_path / "a.json").write_text(to_json([comparison, comparison]), "utf-8")
    moment = opened(str(tmp_path / "a.json"), "a.json")
    assert moment.comparisons == (comparison, comparison)
    assert "nothing was run" in compare_results.status(moment, 1)
    assert "a.json" in compare_results.status(moment)


def test_a_file_too_large_to_draw_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(b" " * (compare_runs.MAX_SAVED + 1))
    assert "more than 25 MB" in opened(str(tmp_path / "a.json"), "a.json").message


def test_of_several_comparisons_the_one_that_is_shown_is_shared(comparison):
    other = replace(comparison, file="other.wav")
    shown = compare_tab.LastComparison("a.wav", CompareMoment("done", comparisons=(comparison, other)))
    assert compare_tab._to_share(shown) == (comparison, "a.wav")
    assert compare_tab._to_share(shown._replace(which=1)) == (other, "a.wav")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"kind": "canary_hub comparison", "version": 1, "comparisons": []}']
)
def test_a_file_that_is_none_is_a_message(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    moment = opened(str(tmp_path / "a.json"), "a.json")
    assert moment.state == "failed"
    assert moment.hint


def test_without_a_reference_there_are_measures_and_no_errors(comparison) -> None:
    alone = [replace(lane, errors={}) if isinstance(lane, LaneResult) else lane for lane in comparison.lanes]
    page = compare_results.measures(replace(comparison, reference=None, lanes=tuple(alone)))
    assert "Times real time" in page
    assert "WER" not in page
