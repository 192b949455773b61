"""The page's parts that need no browser: what it shows, what it reads from forms, how it loads."""

from __future__ import annotations

import subprocess
import sys
import threading
import types
from dataclasses import replace
from enum import Enum
from typing import Literal

import pytest
from pydantic import Field

from canary_hub import Hub
from canary_hub.errors import HubError, OptionError, UnknownNameError, explain
from canary_hub.lanes import Lane
from canary_hub.run.figures import clock
from canary_hub.run.result import Result, SegmentResult, StageRecord
from canary_hub.specs import ComponentSpec, Contract, Options, Stage, WeightsRef
from canary_hub.ui import build_demo
from canary_hub.ui.transcribe.html import segments, stages
from canary_hub.ui.widgets import loading
from canary_hub.ui.widgets.html import remark, status
from canary_hub.ui.widgets.runs import Moment, transcribe
from canary_hub.weights.checkpoint import Checkpoint


@pytest.fixture
def moments(hub, tiny_spec, oracle, monkeypatch):
    """Run the page's `transcribe` with the tiny stack over an audio file of the oracle."""
    monkeypatch.setattr(Hub, "stack", lambda *given, **more: tiny_spec)
    return lambda name, folder=oracle / "audio": list(transcribe(hub, Lane("tiny"), str(folder / name)))


def test_importing_the_package_of_the_page_loads_no_gradio():
    code = "import sys, canary_hub.ui; assert 'gradio' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_first_stack_is_named_at_once(hub):
    with pytest.raises(UnknownNameError, match="nanoo"):
        build_demo(hub, "nanoo")


def test_a_run_ends_with_a_result_and_starts_with_words(moments):
    seen = moments("speech.wav")
    assert seen[0].state == "busy"
    assert seen[0].message
    last = seen[-1]
    assert last.state == "done"
    assert last.result is not None
    assert last.text == last.result.text
    assert last.total == len(last.segments) == len(last.result.segments)
    assert {record.stage for record in last.records} == {stage.value for stage in Stage}


def test_long_audio_says_how_many_segments_are_finished(hub, tiny_spec, oracle, monkeypatch):
    short = replace(tiny_spec.override(options={Stage.LLM: {"max_new_tokens": 3}}), window_seconds=2.0)
    monkeypatch.setattr(Hub, "stack", lambda *given, **more: short)
    seen = list(transcribe(hub, Lane("tiny"), str(oracle / "audio" / "long34.wav")))
    assert seen[-1].total > 8
    assert any("of" in moment.message and moment.share and moment.share < 1 for moment in seen)
    assert len(seen[-1].segments) == seen[-1].total


def test_bad_audio_is_told_before_anything_loads(moments, tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_text("text")
    monkeypatch.setattr(loading, "in_background", pytest.fail)
    failed = moments("a.wav", tmp_path)[-1]
    assert failed.state == "failed"
    assert failed.message.startswith("a.wav")
    assert failed.hint


def test_no_audio_is_a_message():
    assert list(transcribe(Hub(allow=()), Lane("nano"), None))[-1].state == "failed"


def test_what_nobody_expected_shows_no_traceback(caplog):
    message, hint = explain(ValueError("secret/path"))
    assert "secret" not in message + hint
    assert "secret/path" in caplog.text
    assert explain(HubError("a", "b")) == ("a", "b")
    assert "memory" in explain(RuntimeError("CUDA out of memory"))[0]


BAD = "<img src=x onerror=alert(1)>"


def test_everything_shown_is_escaped():
    segment = SegmentResult(0, 1.25, BAD, note=BAD, tokens=1, confidence=0.1)
    result = Result(BAD, 1.25, BAD, [segment], {"audio": 0.1, "llm": 0.2})
    records = [StageRecord("llm", BAD, 0.2, (1, 5), BAD)]
    moment = Moment("failed", BAD, BAD, warnings=(BAD,))
    for html in (
        status(moment),
        status(replace(moment, state="done", result=result)),
        segments({0: segment}),
        stages(replace(moment, result=result, records=tuple(records)), {BAD: BAD + '"'}),
    ):
        assert "<img" not in html


@pytest.mark.parametrize(
    ("segment", "said"),
    [
        (SegmentResult(0, 1, "a", note="cut off at its limit of 5 tokens"), "Cut off at its limit of 5 tokens"),
        (SegmentResult(0, 1, "a", confidence=0.2), "Low confidence: 20% a token on average"),
        (SegmentResult(0, 1, "a", confidence=0.9), ""),
        (SegmentResult(0, 1, "", confidence=0.1), ""),
    ],
)
def test_doubtful_segments_are_marked_with_the_reason(segment, said):
    assert remark(segment) == said


@pytest.mark.parametrize(("value", "text"), [(0, "0:00.0"), (59.96, "1:00.0"), (3723.4, "1:02:03.4")])
def test_clock(value, text):
    assert clock(value) == text


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class EveryKind(Options):
    flag: bool = Field(True, description="A switch")
    colour: Colour = Colour.RED
    word: Literal["a", "b"] = "a"
    count: int = Field(3, ge=1, le=9)
    share: float = Field(0.5, ge=0.0, le=1.0)
    number: float = 1.5
    limit: int | None = None
    words: str = "x"
    many: list[int] = Field(default_factory=lambda: [1, 2])


def test_options_of_every_kind_are_drawn_and_read_back():
    import gradio as gr

    from canary_hub.ui.widgets import fields

    spec = ComponentSpec(Stage.LLM, "a/b", "m:f", Contract(), call_options=EveryKind)
    with gr.Blocks():
        drawn = {field.name: field for field in fields.draw(spec, EveryKind, {"count": 5})}
    kinds = {name: type(field.widget).__name__ for name, field in drawn.items()}
    assert kinds == {
        "flag": "Checkbox",
        "colour": "Dropdown",
        "word": "Dropdown",
        "count": "Slider",
        "share": "Slider",
        "number": "Number",
        "limit": "Number",
        "words": "Textbox",
        "many": "Textbox",
    }
    assert drawn["flag"].widget.info == "A switch"
    assert drawn["count"].widget.value == 5
    read = {name: field.read(field.widget.value) for name, field in drawn.items()}
    assert EveryKind.model_validate(read) == EveryKind(count=5)
    with pytest.raises(OptionError, match="many"):
        drawn["many"].read("[1")


def test_a_download_is_told_with_its_progress(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    ref = WeightsRef(repo="owner/model", gib=2 / 1024)
    assert "Asking" in loading.download_progress([ref])
    blobs = tmp_path / "models--owner--model" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "x.incomplete").write_bytes(b"0" * 2**20)
    assert loading.download_progress([ref]) == "Downloading owner/model: 0.0 of 0.0 GB"
    (blobs / "y").write_bytes(b"0" * 2**20)
    assert loading.download_progress([ref]) == ""


def test_what_has_arrived_needs_no_room_on_the_disk(tmp_path, monkeypatch):
    """A stack that is here loads from a full disk, and an interrupted download wants room for the rest alone."""
    from huggingface_hub import constants

    from canary_hub.weights.checkpoint import _check_room

    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=2**20))
    ref = WeightsRef(repo="owner/model", gib=3 / 1024)
    with pytest.raises(HubError, match="no room"):
        _check_room(ref, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    blobs = tmp_path / "models--owner--model" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "x").write_bytes(b"0" * 2 * 2**20)
    _check_room(ref, tmp_path)


def test_loading_says_what_it_does_and_returns_the_stack(hub, tiny_spec, monkeypatch):
    gate = threading.Event()
    built = hub.load(tiny_spec)
    monkeypatch.setattr(hub, "load", lambda spec: gate.wait(10) and built)
    steps = loading.load(hub, tiny_spec, str)
    assert next(steps).startswith("Loading")
    gate.set()
    loaded = []

    def drive():
        loaded.append((yield from steps))

    assert set(drive()) <= {"Loading canary-qwen-2.5b", "Loading Canary-Qwen 2.5B"}
    assert loaded == [built]


def test_a_stack_that_is_not_here_says_what_it_downloads(tmp_path, monkeypatch):
    from canary_hub.ui.widgets.picker import stack_note

    monkeypatch.setattr(Checkpoint, "available", property(lambda checkpoint: False))
    hub = Hub(tmp_path, allow=())
    assert "the first run downloads 4.8 GB" in stack_note(hub, hub.registry.stack("canary-qwen-2.5b"))


def test_thinking_is_folded_and_answers_are_text():
    from canary_hub.ui.transcribe.ask import message, show

    done = show(f"<think>first {BAD}</think>\n\nthen {BAD}")
    assert "<details" in done
    assert "<img" not in done
    assert "What it thought first" in done
    assert done.endswith(f"<p>then {BAD.replace('<', '&lt;').replace('>', '&gt;')}</p></div>")
    assert "Thinking" in show("<think>not yet")
    assert "<details" not in show("<think></think>plain")
    assert "The answer was cut off at its limit of 9 tokens." in show("so", "cut off at its limit of 9 tokens")
    assert message("Why?", "abc") == "Why?\n\nTranscript:\nabc"
    with pytest.raises(HubError, match="no transcript"):
        message("Why?", " ")
    with pytest.raises(HubError, match="no question"):
        message("", "abc")


def test_subtitle_lines_can_be_set():
    from canary_hub.ui.transcribe.downloads import captions, contents

    result = Result("a.wav", 4, "tiny", [SegmentResult(0, 4, "one two three four five six seven eight")])
    assert len(captions(result, 16, 1)) > len(captions(result, 80, 2)) == 1
    assert captions(result, 80, 2)[0]["timestamp"] == [0, 4]
    files = contents(result, 16, 1)
    assert set(files) == {"txt", "json", "srt", "vtt", "csv"}
    assert max(map(len, files["srt"].splitlines()[2::4])) <= 16


def test_the_registry_page_shows_broken_plugins_and_no_paths(tmp_path):
    import gradio as gr

    from canary_hub.ui.registry import registry_tab

    (tmp_path / "broken.py").write_text("def (")
    with gr.Blocks() as demo:
        registry_tab(Hub(tmp_path, allow=("broken",)))
    html = next(block.value for block in demo.blocks.values() if isinstance(block, gr.HTML))
    assert "Not in use. SyntaxError" in html
    assert "canary/fastconformer" in html
    assert str(tmp_path) not in html


def test_the_example_of_a_plugin_works_as_it_stands(tmp_path):
    from canary_hub.ui.registry import HOW_TO

    (tmp_path / "mine.py").write_text(HOW_TO)
    hub = Hub(tmp_path, allow=("mine",))
    assert next(record for record in hub.records if record.name == "mine").error == ""
    assert hub.registry.component("me/mlp").stage is Stage.PROJECTOR
    fit = hub.check(hub.stack("canary-qwen-2.5b", components={Stage.PROJECTOR: "me/mlp"}))
    assert not fit.problems
    assert any("not trained together" in warning for warning in fit.warnings)
