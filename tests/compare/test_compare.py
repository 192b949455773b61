"""Side by side: what lanes have in common, how far they differ, failures, stopping, exports."""

from __future__ import annotations

import gc
import json
import math
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from conftest import ROOT
from markdown_it import MarkdownIt

from canary_hub import Hub, HubError, SegmentDone, StageDone, Token
from canary_hub.audio.decode import load_audio
from canary_hub.audio.waveform import Waveform
from canary_hub.cli import main
from canary_hub.compare import (
    Comparison,
    FailedLane,
    LaneDone,
    LaneEvent,
    LaneFailed,
    LaneLoading,
    LaneResult,
    LaneStarted,
    compare,
    differing_words,
    from_json,
    lane_run,
    to_json,
    to_markdown,
)
from canary_hub.compare.distances import Distances
from canary_hub.compare.scoring import Diff
from canary_hub.errors import AudioError
from canary_hub.lanes import parse_lane
from canary_hub.pipeline import Stack
from canary_hub.run.result import StageRecord
from canary_hub.specs import Stage
from canary_hub.stages import Step

DIGITS = ROOT / "tests" / "digits"
LIVE = "nano llm=canary/qwen3-peft"
AUDIO_STAGES = ["audio", "preprocessor", "encoder", "projector"]


def lanes(*texts: str) -> list:
    return [parse_lane(text) for text in texts]


def result_of(hub: Hub, *texts: str, source=DIGITS / "three.flac", **options) -> Comparison:
    *_, last = compare(hub, lanes(*texts), source, **options)
    assert isinstance(last, Comparison)
    return last


def spoken(*names: str) -> np.ndarray:
    clips = [soundfile.read(DIGITS / f"{name}.flac", dtype="float32") for name in names]
    assert {rate for _, rate in clips} == {16000}
    gap = np.zeros(4000, np.float32)
    return np.concatenate([part for samples, _ in clips for part in (samples, gap)])


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Hub]:
    """A hub with an empty pool, in which nothing may be in use at the end."""
    hub = Hub(tmp_path, allow=())
    yield hub
    assert [entry.key for entry in hub.pool._entries.values() if entry.users] == []


@pytest.fixture(scope="module")
def three(hub: Hub) -> Comparison:
    return result_of(hub, "nano", LIVE, "nano dtype=bfloat16", reference="three dogs", details=True)


@pytest.mark.parametrize("in_turn", [True, False])
def test_lanes_share_what_is_the_same_and_nothing_else(fresh: Hub, in_turn: bool) -> None:
    prompt = 'nano before="Listen: "'
    found = result_of(fresh, "nano", LIVE, prompt, "nano dtype=bfloat16", in_turn=in_turn)
    marks = [{name for name, stage in lane.stages.items() if stage.shared} for lane in found.lanes]
    if in_turn:
        assert marks == [set(), set(AUDIO_STAGES), set(AUDIO_STAGES), {"audio"}]
    else:  # who comes first does the work
        for stage in AUDIO_STAGES[1:]:
            assert sum(stage in mark for mark in marks[:3]) == 2
        assert marks[3] == {"audio"}
    for stage in AUDIO_STAGES[1:]:
        assert len({lane.stages[stage].seconds for lane in found.lanes[:3]}) == 1  # what it took where it was computed
    assert len({lane.text for lane in found.lanes[:2]}) == 1
    # Two dtypes of five components, and the live LLM: 11 objects, and each of them once.
    assert len(fresh.pool) == 11
    parts = {name for name, stage in found.lanes[1].stages.items() if stage.in_common}
    assert parts == {"preprocessor", "encoder", "projector", "prompt-template"}
    assert found.lanes[0].nbytes_in_common == found.lanes[0].nbytes > 0
    assert found.lanes[3].nbytes_in_common == 0
    distinct = found.lanes[0].nbytes + found.lanes[1].stages["llm"].nbytes + found.lanes[3].nbytes
    assert distinct == fresh.pool.nbytes


def test_results_tell_what_ran(hub: Hub, three: Comparison) -> None:
    merged, live, half = three.lanes
    assert [lane.lane for lane in three.lanes] == ["nano", LIVE, "nano dtype=bfloat16"]
    assert merged.text == live.text == hub.load("nano").transcribe(DIGITS / "three.flac").text == "three"
    assert live.components["llm"] == live.stages["llm"].component == "canary/qwen3-peft"
    assert [lane.dtype for lane in three.lanes] == ["float32", "float32", "bfloat16"]
    assert live.options["llm"]["max_new_tokens"] == 448
    assert merged.parameters == hub.load("nano").component(Stage.LLM).parameters + sum(
        merged.stages[name].parameters for name in ("encoder", "projector")
    )
    assert three.duration == pytest.approx(soundfile.info(DIGITS / "three.flac").duration)
    for lane in three.lanes:
        assert 0 < lane.first_token_seconds < lane.seconds
        assert lane.seconds == pytest.approx(sum(stage.seconds for stage in lane.stages.values()))
        assert three.speed(lane) == pytest.approx(three.duration / lane.seconds)
        assert lane.tokens_per_second == pytest.approx(lane.tokens / lane.stages["llm"].seconds)
        assert lane.confidence == pytest.approx(lane.segments[0].confidence)
        assert lane.trace.segments[0].tokens
    assert half.trace.stages[1].dtype == "bfloat16"


def test_error_rates_are_jiwers_and_differences_are_told(three: Comparison) -> None:
    lane = three.lanes[1]
    assert lane.errors["raw"].wer == jiwer.wer("three dogs", lane.text) == 0.5
    assert lane.errors["raw"].cer == jiwer.cer("three dogs", lane.text)
    assert lane.errors["whisper"].wer == 0.5  # "3 dogs"
    assert lane.against_reference == (Diff("equal", ("3",), ("3",)), Diff("delete", ("dogs",), ()))
    assert lane.against_first == (Diff("equal", ("three",), ("three",)),)
    assert three.lanes[0].against_first is None
    assert differing_words(lane.against_reference) == ['- "dogs"']


def test_blank_references_are_none(hub: Hub) -> None:
    found = result_of(hub, "nano", "nano", reference="  \n")
    assert found.reference is None
    assert found.lanes[0].errors == {}


@pytest.mark.parametrize("in_turn", [True, False])
def test_identical_lanes_are_at_no_distance(hub: Hub, in_turn: bool) -> None:
    first, second = result_of(hub, "nano", "nano", in_turn=in_turn).lanes
    assert first.distances == {}
    assert {(d.max_abs, d.cosine) for d in second.distances.values()} == {(0.0, 0.0)}
    assert list(second.distances) == ["preprocessor", "encoder", "projector", "prompt-template"]


@pytest.mark.parametrize("in_turn", [True, False])
def test_distances_are_those_of_the_stage_outputs(hub: Hub, in_turn: bool) -> None:
    source = DIGITS / "seven.flac"
    found = result_of(hub, "nano", "nano dtype=bfloat16", source=source, in_turn=in_turn).lanes[1].distances
    outputs = []
    for dtype in ("float32", "bfloat16"):
        stack = hub.load("nano", dtype=dtype)
        run = stack.run([stack.load_audio(source)])
        outputs.append([e.output for e in run if isinstance(e, StageDone) and e.output is not None])
        lengths = [e.lengths for e in stack.run([stack.load_audio(source)]) if isinstance(e, StageDone)]
    for at, stage in [(1, "encoder"), (2, "projector"), (3, "prompt-template")]:
        n = int(lengths[at][0])
        one, two = (made[at][0, :n].double().numpy().ravel() for made in outputs)  # one clip: no padding on the left
        assert found[stage].max_abs == pytest.approx(np.abs(one - two).max())
        assert found[stage].max_abs > 0
        cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        assert found[stage].cosine == pytest.approx(1 - cosine, rel=1e-6, abs=1e-12)
        assert found[stage].cosine > 0
    assert found["preprocessor"].max_abs == 0  # features stay float32


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_distances_by_hand(order: tuple[int, int]) -> None:
    """Two batches; rows of two lengths, garbage in the padding; the lanes in either order."""
    distances = Distances()

    def add(lane: int, stage: str, output: list, lengths: list[int]) -> None:
        record = StageRecord(stage, "x/y", 0.0, (), "float32")
        distances.add(lane, StageDone(record, torch.tensor(output), torch.tensor(lengths)))

    batches = [
        {0: ([[[3.0], [0.0]], [[4.0], [99.0]]], [2, 1]), 1: ([[[0.0], [3.0]], [[4.0], [77.0]]], [2, 1])},
        {0: ([[[0.0]]], [1]), 1: ([[[-5.0]]], [1])},
    ]
    for batch in batches:
        for lane in order:
            add(lane, "encoder", *batch[lane])
            output, lengths = batch[lane]
            flipped = [row[:n] if n == len(row) else row[::-1] for row, n in zip(output, lengths, strict=True)]
            add(lane, "prompt-template", flipped, lengths)
            add(lane, "preprocessor", [[[lane * math.nan]]], [1])
            add(lane, "projector", [[[1.0]]] * (lane + 1), [1] * (lane + 1))
        distances.next_batch()
    found = distances.of(1)
    # (3, 0, 4, 0) and (0, 3, 4, -5): 16 in common of lengths 5 and sqrt(50)
    for stage in ("encoder", "prompt-template"):
        assert found[stage].max_abs == 5
        assert found[stage].cosine == pytest.approx(1 - 16 / (5 * math.sqrt(50)))
    assert "not finite" in found["preprocessor"].reason
    assert found["projector"].reason == "2 segments instead of 1"


def test_where_there_is_no_distance_the_reason_is_told(hub: Hub) -> None:
    longer = result_of(hub, "nano", "nano before=Hear").lanes[1].distances
    assert longer["encoder"].max_abs == 0
    assert "another shape" in longer["prompt-template"].reason
    assert longer["prompt-template"].max_abs is None
    failed_first = result_of(hub, "nano encoder=canary/none", "nano").lanes[1]
    assert failed_first.distances["encoder"].reason == "lane 1 failed"
    assert failed_first.against_first is None


def test_events_come_in_order(hub: Hub) -> None:
    events = list(compare(hub, lanes("nano", LIVE), DIGITS / "three.flac"))
    of_lane: dict[int, list] = {0: [], 1: []}
    for event in events[:-1]:
        of_lane[event.lane].append(event)
    assert isinstance(events[-1], Comparison)
    assert [event.lane for event in events[:-1]] == [0] * len(of_lane[0]) + [1] * len(of_lane[1])
    for lane, told in of_lane.items():
        kinds = [type(event.event if isinstance(event, LaneEvent) else event) for event in told]
        loading = kinds.count(LaneLoading)
        tokens = events[-1].lanes[lane].tokens
        assert loading >= 1
        assert kinds == [
            *[LaneLoading] * loading, LaneStarted, *[StageDone] * 4, *[Token] * tokens, StageDone, SegmentDone, LaneDone
        ]  # fmt: skip
        assert all(e.event.output is None for e in told if isinstance(e, LaneEvent) and isinstance(e.event, StageDone))


@pytest.mark.parametrize("in_turn", [True, False])
def test_long_audio_goes_through_batch_by_batch_and_is_not_kept(fresh: Hub, in_turn: bool, monkeypatch) -> None:
    names = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    wave = Waveform(np.tile(spoken(*names), 15)[: 16000 * 75], 16000, "long")
    outputs: list[list[weakref.ref]] = []
    plain = Distances.add

    def watched(self, lane: int, done: StageDone) -> None:
        if done.output is not None and done.record.stage == "encoder" and lane == 0:
            if outputs:
                assert outputs[-1][0]() is None  # of the batch before
            outputs.append([weakref.ref(done.output)])
        plain(self, lane, done)

    monkeypatch.setattr(Distances, "add", watched)
    texts = ["nano", LIVE, "nano before=Hear"]
    found = result_of(fresh, *texts, source=wave, in_turn=in_turn)
    assert len(outputs) == 2
    assert len(found.lanes[0].segments) > 8
    for text, lane in zip(texts, found.lanes, strict=True):
        assert lane.text == fresh.load(parse_lane(text)).transcribe(wave).text
    assert found.lanes[1].distances["projector"].max_abs == 0
    assert not any(thread.name.startswith("lane") for thread in threading.enumerate())


def test_other_cuts_are_not_compared(hub: Hub) -> None:
    wave = Waveform(spoken("one", "two", "three", "four", "five"), 16000, "digits")
    assert 1.5 < wave.seconds < 8
    *_, found = compare(hub, [parse_lane("nano"), parse_lane("nano dtype=bfloat16 window=1.5")], wave)
    assert len(found.lanes[1].segments) > 1
    assert "cut into other segments" in found.lanes[1].distances["encoder"].reason


@pytest.mark.parametrize("in_turn", [True, False])
def test_lanes_that_fail_leave_the_others_alone(fresh: Hub, in_turn: bool, monkeypatch) -> None:
    with fresh.load("nano", components={Stage.LLM: "canary/qwen3-peft"}) as live:
        monkeypatch.setattr(live.component(Stage.LLM), "embed", lambda ids: 1 / 0)
    texts = ["nano", LIVE, "nano dtype=float8", "nano max_new_token=3"]
    events = list(compare(fresh, lanes(*texts), DIGITS / "three.flac", in_turn=in_turn))
    failed = {event.lane: event.failed for event in events if isinstance(event, LaneFailed)}
    assert events[-1].lanes[1:] == (failed[1], failed[2], failed[3])
    assert "ZeroDivisionError" in failed[1].message
    assert "float8" in failed[2].message
    assert "Did you mean max_new_tokens" in failed[3].hint
    assert events.index(next(e for e in events if isinstance(e, LaneFailed))) == 0  # before anything is loaded
    assert events[-1].lanes[0].text == "three"
    assert not any("Traceback" in lane.message for lane in failed.values())


@pytest.mark.parametrize(
    ("in_turn", "texts"),
    [
        (True, ["nano", LIVE]),
        (False, ["nano", LIVE, "nano dtype=bfloat16"]),
        (False, ["nano", "nano before=Hear", "nano after=now"]),  # one LLM: two lanes wait for the first
    ],
)
def test_closing_stops_every_lane(fresh: Hub, in_turn: bool, texts: list[str], monkeypatch) -> None:
    steps = []

    def endless(plain):
        def generate(*arguments, **options) -> Iterator[Step]:
            first = next(iter(plain(*arguments[:2], arguments[2])))
            with lock:  # as a backend whose module has a state
                while True:
                    steps.append(1)
                    time.sleep(0.005)
                    yield replace(first, ids=(len(steps) % 97 + 3,))

        lock = threading.Lock()
        return generate

    stacks = [fresh.load(lane) for lane in lanes(*texts)]
    for llm in {stack.component(Stage.LLM) for stack in stacks}:
        monkeypatch.setattr(llm, "generate", endless(llm.generate))
    for stack in stacks:
        stack.close()
    with closing(compare(fresh, lanes(*texts), DIGITS / "three.flac", in_turn=in_turn)) as events:
        tokens = 0
        while tokens < 5:
            event = next(events)
            tokens += isinstance(event, LaneEvent) and isinstance(event.event, Token)
    before = len(steps)
    assert not any(thread.name.startswith("lane") for thread in threading.enumerate())
    time.sleep(0.05)
    assert len(steps) == before


def test_closing_while_a_stack_loads_gives_it_back(fresh: Hub, monkeypatch) -> None:
    loaded, go_on = threading.Event(), threading.Event()
    plain = Hub.load

    def slow(self, *arguments, **options) -> Stack:
        assert go_on.wait(30)
        stack = plain(self, *arguments, **options)
        loaded.set()
        return stack

    monkeypatch.setattr(Hub, "load", slow)
    monkeypatch.setattr(lane_run, "LOOK_EVERY", 0.01)
    events = compare(fresh, lanes("nano", "nano"), DIGITS / "three.flac")
    assert [next(events) for _ in range(3)][2].seconds > 0  # it is told that it takes its time
    events.close()
    go_on.set()
    assert loaded.wait(30)
    for thread in threading.enumerate():
        if thread.name == "lane loading":
            thread.join(30)
    assert len(fresh.pool) == 5


def test_the_result_holds_no_weights(fresh: Hub) -> None:
    events = compare(fresh, lanes("nano", LIVE, "nano dtype=float8"), DIGITS / "three.flac")
    models: list[weakref.ref] = []
    for event in events:
        if isinstance(event, LaneDone) and not models:
            models = [weakref.ref(entry.component) for entry in fresh.pool._entries.values()]
        if isinstance(event, Comparison):
            break  # the iterator is still open
    assert not any(entry.users for entry in fresh.pool._entries.values())
    fresh.pool.clear()
    gc.collect()
    assert [ref() for ref in models] == [None] * 5


def test_audio_is_decoded_once(hub: Hub, monkeypatch) -> None:
    decoded = []
    monkeypatch.setattr(lane_run, "load_audio", lambda *a, **k: decoded.append(a) or load_audio(*a, **k))
    result_of(hub, "nano", LIVE, "nano dtype=bfloat16")
    assert len(decoded) == 1
    samples, rate = soundfile.read(DIGITS / "three.flac", dtype="float32")
    lower = Waveform(np.repeat(samples, 2), 2 * rate, "twice the rate")
    assert result_of(hub, "nano", "nano", source=lower).lanes[1].text == "three"
    assert [rate for _, rate, _ in decoded[1:]] == [32000, 16000]  # as it is, and once at the rate of both lanes


def test_unusable_requests_are_refused(hub: Hub, tmp_path: Path) -> None:
    for texts in (["nano"], ["nano"] * 5):
        with pytest.raises(HubError, match="2 to 4 lanes"):
            compare(hub, lanes(*texts), DIGITS / "three.flac")
    with pytest.raises(AudioError, match="no file"):
        next(compare(hub, lanes("nano", "nano"), tmp_path / "gone.wav"))


def test_json_reads_back_to_the_same(hub: Hub, three: Comparison) -> None:
    with_failure = result_of(hub, "nano", "nano encoder=canary/none")
    document = to_json([three, with_failure])
    assert from_json(document) == [three, with_failure]
    assert from_json(document.encode()) == [three, with_failure]
    read = json.loads(document)
    assert read["version"] == 1
    assert read["comparisons"][0]["lanes"][0]["text"] == "three"
    assert isinstance(from_json(document)[1].lanes[1], FailedLane)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d.update(version=99), "version 99"),
        (lambda d: d.update(kind="a shopping list"), "no comparison"),
        (lambda d: d["comparisons"][0]["lanes"][0].pop("segments"), r"damaged: 0\.lanes\.0\.done\.segments"),
        (lambda d: d["comparisons"][0]["lanes"].clear(), "damaged"),
        (lambda d: d.pop("comparisons"), "damaged"),
    ],
)
def test_unusable_files_say_why(three: Comparison, change, why: str) -> None:
    document = json.loads(to_json([replace(three, lanes=three.lanes[:2])]))
    change(document)
    with pytest.raises(HubError, match=why):
        from_json(json.dumps(document))


@pytest.mark.parametrize("content", ["", "# Notes", b"\xff\xfe\x00", "[" * 100_000, "[1, 2]", "null"])
def test_what_is_no_json_says_so(content: str | bytes) -> None:
    with pytest.raises(HubError, match=r"no JSON|no comparison"):
        from_json(content)


def cells(markdown: str) -> list[list[str]]:
    """The table as a Markdown parser reads it: text, with "\\n" for <br>."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)
    rows: list[list[str]] = []
    for at, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            inline = tokens[at + 1].children
            assert {child.type for child in inline} <= {"text", "text_special", "html_inline"}
            assert all(child.content == "<br>" for child in inline if child.type == "html_inline")
            rows[-1].append("".join("\n" if c.type == "html_inline" else c.content for c in inline))
    return rows


def test_markdown_shows_texts_as_they_are(three: Comparison) -> None:
    nasty = "a | b \\| <b>bold</b> & &lt; *c* _d_ `e` [f](http://g) ~~h~~\n# i <br> $j$ \\"
    first = three.lanes[0]
    assert isinstance(first, LaneResult)
    odd = replace(first, lane="nano |x", segments=(replace(first.segments[0], text=nasty),))
    failed = FailedLane("nano <y>", "no | such\nthing")
    odd_pieces = replace(three.lanes[1], against_first=(Diff("substitute", ("a|b", "<i>"), ("c", "*d*")),))
    found = replace(three, lanes=(odd, odd_pieces, failed))
    head, *rows = cells(to_markdown([found]))
    assert head == ["", "1: nano |x", f"2: {LIVE}", "3: nano <y>"]
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["transcript"] == [nasty, "three", "failed: no | such\nthing"]
    assert by_name["WER, normalised"] == ["50.0%, 1 of 2", "50.0%, 1 of 2", "-"]
    assert by_name["Encoder"][1] == by_name["Encoder"][0] + ", shared"
    assert by_name["Encoder output"] == ["-", "the same", "-"]
    assert len({len(row) for row in rows}) == 1
    text = to_markdown([found])
    assert '"a\\|b &lt;i&gt;" -&gt; "c \\*d\\*"' in text
    assert len(cells(to_markdown([three, three]))) == 2 * len(cells(to_markdown([three])))


def test_many_differences_are_cut_short() -> None:
    pieces = [Diff("insert", (), (str(i),)) for i in range(30)] + [Diff("equal", ("x",), ("x",))]
    assert differing_words(pieces, 2) == ['+ "0"', '+ "1"', "and 28 more"]
    assert len(differing_words(pieces, 30)) == 30


def cli(*arguments: str | Path):
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_command_compares_files_with_references(tmp_path: Path) -> None:
    for name in ("three", "four"):
        (tmp_path / f"{name}.txt").write_text(name.capitalize() + ".", "utf-8")
    audio = [DIGITS / "three.flac", DIGITS / "four.flac"]
    out = tmp_path / "out" / "found.json"
    two = ["--lane", "nano", "--lane", LIVE]
    result = cli(*audio, *two, "--reference", tmp_path, "--format", "json", "--at-once", "--details", "--output", out)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    found = from_json(out.read_bytes())
    assert [comparison.file for comparison in found] == ["three.flac", "four.flac"]
    assert [comparison.reference for comparison in found] == ["Three.", "Four."]
    assert {lane.errors["whisper"].wer for comparison in found for lane in comparison.lanes} == {0.0}
    assert {lane.errors["raw"].wer for comparison in found for lane in comparison.lanes} == {1.0}
    assert all(lane.trace is not None for comparison in found for lane in comparison.lanes)
    assert not any(comparison.in_turn for comparison in found)


def test_command_tells_failures_and_goes_on(tmp_path: Path) -> None:
    bad = tmp_path / "notes.wav"
    bad.write_text("dear diary")
    result = cli(bad, DIGITS / "three.flac", "--lane", "nano", "--lane", "nano encoder=canary/none",
                 "--reference", "x", "--reference", "three")  # fmt: skip
    assert result.exit_code == 1
    assert "### three.flac" in result.stdout
    assert "notes.wav" in result.stderr
    assert "lane 2 (nano encoder=canary/none): " in result.stderr
    assert "is no file, so it is the text itself: 'three'" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lane", "nano"], "2 to 4 lanes"),
        (["--lane", "nano", "--lane", "nano x"], "key=value"),
        (["--lane", "nano", "--lane", LIVE, "--reference", "gone.txt"], "no reference 'gone.txt'"),
        (["--lane", "nano", "--lane", LIVE, "--reference", "a", "--reference", "b"], "2 references for 1 audio"),
        (["--lane", "nano", "--lane", LIVE, "--details"], "add --format json"),
    ],
)
def test_command_explains_what_it_cannot_use(arguments: list[str], said: str) -> None:
    result = cli(DIGITS / "three.flac", *arguments)
    assert result.exit_code != 0
    assert said in result.stderr
    assert "Traceback" not in result.output
