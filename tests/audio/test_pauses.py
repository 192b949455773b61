"""Segmenters: chosen by name wherever a component is, listed, and blamed when they answer nonsense."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import gradio as gr
import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import ROOT

from canary_hub import Hub
from canary_hub.audio.waveform import Waveform
from canary_hub.cli import main
from canary_hub.compare import Comparison, FailedLane, LaneResult, compare
from canary_hub.errors import ContractError, PluginError, UnknownNameError
from canary_hub.evaluate.identity import identity
from canary_hub.lanes import Lane, parse_lane
from canary_hub.registry import stack_facts
from canary_hub.run.events import Done
from canary_hub.share.links import Link, from_query, known, to_query
from canary_hub.specs import StackSpec
from canary_hub.ui.compare.forms import LaneForm
from canary_hub.ui.registry import registry_tab
from canary_hub.ui.widgets.picker import Picker, component_pickers, prompt_fields, stack_picker
from canary_hub.ui.widgets.runs import transcribe

RATE = 16_000
WINDOW = 4.0

PLUGIN = """
from canary_hub.hookspecs import hookimpl
from canary_hub.specs import SegmenterSpec

@hookimpl
def canary_segmenters():
    made = {
        "test/first": "first", "test/raises": "raises", "test/early": "early", "test/late": "late",
        "test/nan": "nan", "test/none": "none", "test/unbuilt": "unbuilt", "test/lost": "lost",
    }
    specs = [SegmenterSpec(id, f"{__name__}:{name}", "for a test") for id, name in made.items()]
    return [*specs, SegmenterSpec("test/needy", f"{__name__}:first", "", ("surely_not_installed",), "pip install it")]

def first(): return lambda wave, first, last: first
def raises(): return lambda wave, first, last: 1 / 0
def early(): return lambda wave, first, last: first - 1
def late(): return lambda wave, first, last: last + 1
def nan(): return lambda wave, first, last: float("nan")
def none(): return lambda wave, first, last: None
def unbuilt(): raise RuntimeError("no model here")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "cuts.py").write_text(dedent(PLUGIN))
    return folder


@pytest.fixture(scope="module")
def cutting(folder: Path) -> Hub:
    return Hub(folder, allow=["cuts"])


@pytest.fixture(scope="module")
def wave() -> Waveform:
    """11 s of noise: cut into pieces of at most 4 s, the earliest cuts lie at 3, 6 and 9 s."""
    return Waveform(np.random.default_rng(0).normal(0, 0.1, 11 * RATE).astype(np.float32), RATE, "noise")


@pytest.fixture(scope="module")
def file(wave: Waveform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import soundfile

    path = tmp_path_factory.mktemp("audio") / "noise.wav"
    soundfile.write(path, wave.samples, RATE, "FLOAT")
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def starts(hub: Hub, spec: StackSpec, wave: Waveform) -> list[float]:
    with hub.load(spec, device="cpu") as stack:
        found = stack.transcribe(wave, max_new_tokens=1).segments
    assert found[-1].end == wave.seconds
    assert all(a.end == b.start for a, b in pairwise(found))
    return [segment.start for segment in found]


def test_its_cuts_are_used_when_it_is_named_and_only_then(cutting: Hub, hub: Hub, wave: Waveform) -> None:
    named = cutting.stack("nano", window=WINDOW, segmenter="test/first")
    assert starts(cutting, named, wave) == [0.0, 3.0, 6.0, 9.0]
    usual = starts(hub, hub.stack("nano", window=WINDOW), wave)
    assert usual != [0.0, 3.0, 6.0, 9.0]
    assert starts(cutting, cutting.stack("nano", window=WINDOW), wave) == usual
    assert {spec.segmenter for spec in cutting.registry.stacks.values()} == {"canary/energy"}


def test_a_stack_may_name_one_of_its_own(cutting: Hub, wave: Waveform) -> None:
    own = replace(cutting.stack("nano", window=WINDOW), name="own", segmenter="test/first")
    assert starts(cutting, own, wave) == [0.0, 3.0, 6.0, 9.0]
    assert cutting.stack(own, segmenter="canary/energy").segmenter == "canary/energy"
    assert stack_facts(own)["segmenter"] == "test/first"


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("test/raises", "test/raises failed while looking for a pause: ZeroDivisionError"),
        ("test/early", "test/early answered 47999 when asked for a sample between 48000 and 64000 of noise"),
        ("test/late", "test/late answered 64001"),
        ("test/nan", "test/nan answered nan"),
        ("test/none", "test/none answered None"),
        ("test/unbuilt", "test/unbuilt failed while loading: RuntimeError: no model here"),
        ("test/lost", "test/lost names .* has no lost"),
    ],
)
def test_what_it_does_wrong_is_told_under_its_name(cutting: Hub, wave: Waveform, id: str, said: str) -> None:
    with (
        pytest.raises(PluginError, match=said),
        cutting.load(cutting.stack("nano", window=WINDOW, segmenter=id), device="cpu") as stack,
    ):
        stack.transcribe(wave)


def test_audio_that_fits_is_not_asked_about(cutting: Hub, wave: Waveform) -> None:
    assert starts(cutting, cutting.stack("nano", window=20.0, segmenter="test/raises"), wave) == [0.0]


def test_an_unknown_one_and_a_missing_package_are_told_before_anything_loads(cutting: Hub) -> None:
    with pytest.raises(UnknownNameError, match=r"no segmenter 'first'.*\n.*test/first"):
        cutting.stack("nano", segmenter="first")
    needy = cutting.stack("nano", segmenter="test/needy")
    assert cutting.check(needy).problems == ("test/needy needs surely_not_installed: pip install it",)
    with pytest.raises(ContractError, match="pip install it"):
        cutting.load(needy)


BAD = {
    "taken": ('SegmenterSpec("canary/energy", "a:b")', "'segmenter canary/energy', which plugin 'canary_qwen'"),
    "badid": ('SegmenterSpec("energy", "a:b")', "Segmenter id 'energy' is not of the form namespace/name"),
    "nowhere": ('SegmenterSpec("test/x", "a.b")', "'a.b' of segmenter 'test/x' is not of the form"),
    "wrong": ('"test/x"', "no SegmenterSpec"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_registered_costs_its_plugin_alone(tmp_path: Path, name: str) -> None:
    source, said = BAD[name]
    head = PLUGIN.partition("@hookimpl")[0]
    (tmp_path / "bad.py").write_text(f"{head}\n@hookimpl\ndef canary_segmenters():\n    return [{source}]\n")
    hub = Hub(tmp_path, allow=["bad"])
    (record,) = (record for record in hub.records if record.name == "bad")
    assert said in record.error
    assert not record.segmenters
    assert list(hub.registry.segmenters) == ["canary/energy"]


def test_the_command_line_lists_and_takes_it(folder: Path, file: Path) -> None:
    own = ["--plugins-dir", folder]
    assert "\nsegmenter\n  canary/energy" in run("components", *own).stdout
    assert run("components", "segmenter", *own).stdout.startswith("segmenter\n  canary/energy")
    assert run("components", "test/first", *own).stdout.splitlines()[1].split() == ["test/first", "for", "a", "test"]
    (row,) = json.loads(run("components", "test/needy", "--json", *own).stdout)
    assert row == {"id": "test/needy", "stage": "segmenter", "title": "", "requires": ["surely_not_installed"]}
    listed = json.loads(run("components", "--json", *own).stdout)
    assert [row["id"] for row in listed if row["stage"] == "segmenter"][:2] == ["canary/energy", "test/first"]
    assert "    segmenter test/first\n" in run("plugins", "--verbose", *own).stdout
    plugins = {row["name"]: row["segmenters"] for row in json.loads(run("plugins", "--json", *own).stdout)}
    assert plugins["canary_qwen"] == ["canary/energy"]
    assert "test/late" in plugins["cuts"]

    asked = ["transcribe", file, *own, "--window", WINDOW, "-o", "max_new_tokens=1", "--format", "json"]
    done = run(*asked, "--segmenter", "test/first")
    assert done.exit_code == 0, done.output
    assert [segment["start"] for segment in json.loads(done.stdout)[0]["segments"]] == [0.0, 3.0, 6.0, 9.0]
    failed = run(*asked, "--segmenter", "test/early")
    assert failed.exit_code == 1
    assert "test/early answered 47999" in failed.output
    needy = run("check", "nano", *own, "--segmenter", "test/needy")
    assert "test/needy needs surely_not_installed: pip install it" in needy.output


def test_a_lane_names_it(cutting: Hub, wave: Waveform) -> None:
    text = "nano window=4 segmenter=test/first"
    assert str(parse_lane(text)) == text
    *_, last = compare(cutting, [parse_lane("nano window=4"), parse_lane(text)], wave, device="cpu")
    assert isinstance(last, Comparison)
    usual, named = last.lanes
    assert isinstance(usual, LaneResult)
    assert isinstance(named, LaneResult)
    assert [segment.start for segment in named.segments] == [0.0, 3.0, 6.0, 9.0]
    assert [segment.start for segment in usual.segments] != [0.0, 3.0, 6.0, 9.0]


def test_a_lane_with_a_broken_one_fails_alone(cutting: Hub, wave: Waveform) -> None:
    lanes = [parse_lane("nano window=4"), parse_lane("nano window=4 segmenter=test/late")]
    *_, last = compare(cutting, lanes, wave, device="cpu")
    assert isinstance(last.lanes[0], LaneResult)
    assert isinstance(last.lanes[1], FailedLane)
    assert "test/late answered 64001" in last.lanes[1].message


def test_transcripts_of_another_one_are_never_taken_for_the_same(cutting: Hub) -> None:
    stacks = [cutting.assemble(cutting.stack("nano", segmenter=id)) for id in (None, "test/first")]
    known = [identity(cutting, stack, "float32", None) for stack in stacks]
    assert [one["segmenter"] for one in known] == ["canary/energy", "test/first"]
    assert known[0]["code"] != known[1]["code"]


def test_links_keep_it_and_tell_of_one_that_is_not_here(cutting: Hub, hub: Hub) -> None:
    lane = parse_lane("nano max_new_tokens=5 segmenter=test/first")
    for link in (Link(lanes=(lane,)), Link("compare", (Lane("nano"), lane))):
        read, problems = from_query(to_query(link))
        assert (read, problems) == (link, [])
        assert known(read, cutting) == (link, [])
        elsewhere, told = known(read, hub)
        assert elsewhere.lanes[-1] == replace(lane, segmenter=None)
        assert told == ["There is no segmenter 'test/first'."]
    assert str(LaneForm.of(cutting, lane).lane(cutting)) == str(lane)


def drawn(hub: Hub) -> Picker:
    with gr.Blocks():
        picker = stack_picker(hub, "nano")
        prompt_fields(picker, "nano")
        component_pickers(picker, "nano")
        picker.listen()
    return picker


def sent(picker: Picker, shown: list[Any]) -> list[Any]:
    """What the browser would send after `show`."""
    now = {id(widget): getattr(widget, "value", None) for widget in picker.outputs}
    for widget, value in zip(picker.outputs, shown, strict=True):
        now[id(widget)] = value.get("value") if isinstance(value, dict) else value
    return [now[id(widget)] for widget in picker.inputs]


def test_the_page_offers_a_choice_where_there_is_one(cutting: Hub, hub: Hub) -> None:
    assert drawn(hub).segmenter is None
    picker = drawn(cutting)
    assert picker.segmenter is not None
    assert [value for value, _ in picker.segmenter.choices][:2] == ["canary/energy", "test/first"]
    lane = parse_lane("nano max_new_tokens=5 llm=canary/qwen3-peft segmenter=test/first")
    values = sent(picker, picker.show(lane))
    assert picker.lane(values) == lane
    assert picker.choice(values).segmenter == "test/first"
    assert picker.choice(values).options["llm.max_new_tokens"] == 5
    assert picker.lane([widget.value for widget in picker.inputs]) == Lane("nano")
    fit = picker.show(parse_lane("nano segmenter=test/needy"))[2]
    assert "test/needy needs surely_not_installed: pip install it" in fit


def test_the_page_runs_it_and_tells_its_faults(cutting: Hub, file: Path) -> None:
    few = {"llm.max_new_tokens": 1}
    *_, done = transcribe(cutting, Lane("nano", options=few, segmenter="test/first"), str(file))
    assert done.state == "done", done.message
    assert [segment.start for _, segment in sorted(done.segments.items())] == [0.0, 6.0]
    *_, failed = transcribe(cutting, Lane("nano", segmenter="test/raises"), str(file))
    assert failed.state == "failed"
    assert "test/raises failed while looking for a pause" in failed.message


def test_the_registry_tab_shows_them(cutting: Hub) -> None:
    with gr.Blocks() as page:
        registry_tab(cutting)
    (html,) = [block.value for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert "<code>test/first</code>" in html
    assert "Needs surely_not_installed." in html
    assert "9 segmenters" in html


def test_spans_that_are_known_are_not_looked_for_again(cutting: Hub, wave: Waveform) -> None:
    with cutting.load(cutting.stack("nano", window=WINDOW, segmenter="test/first"), device="cpu") as stack:
        spans = stack.split(wave)
        broken = cutting.load(cutting.stack("nano", window=WINDOW, segmenter="test/raises"), device="cpu")
        with broken:
            *_, done = broken.run([wave], spans=[spans])
    assert isinstance(done, Done)
    assert [segment.start for segment in done.result.segments] == [0.0, 3.0, 6.0, 9.0]


def test_the_tutorials_plugin_runs(tmp_path: Path, wave: Waveform) -> None:
    tutorial = (ROOT / "plugins" / "README.md").read_text("utf-8")
    (block,) = (code for code in re.findall(r"^```text\n(.*?)^```", tutorial, re.M | re.S) if "SegmenterSpec" in code)
    (tmp_path / "middle.py").write_text(block)
    hub = Hub(tmp_path, allow=["middle"])
    spec = hub.stack("nano", window=WINDOW, segmenter="loudness/middle")
    assert starts(hub, spec, wave) == [0.0, 3.5, 7.0]
