"""Links on the page: what is picked becomes a lane and back; a shared result is shown as text, never as markup."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from canary_hub import Hub, Result, SegmentResult
from canary_hub.lanes import Lane, parse_lane
from canary_hub.share.store import SharedResults
from canary_hub.specs import Stage
from canary_hub.ui.compare.forms import LaneForm
from canary_hub.ui.share.view import SharedView, body, heading
from canary_hub.ui.widgets.picker import Picker, component_pickers, prompt_fields, stack_picker
from canary_hub.ui.widgets.share_panel import created

BAD = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def picker(hub: Hub) -> Picker:
    with gr.Blocks():
        drawn = stack_picker(hub, "nano")
        prompt_fields(drawn, "nano")
        component_pickers(drawn, "nano")
    return drawn


def values_of(picker: Picker, shown: list[Any]) -> list[Any]:
    """What the browser would send after `show`."""
    now = {id(widget): getattr(widget, "value", None) for widget in picker.outputs}
    for widget, value in zip(picker.outputs, shown, strict=True):
        now[id(widget)] = value.get("value") if isinstance(value, dict) else value
    return [now[id(widget)] for widget in picker.inputs]


@pytest.mark.parametrize(
    "text",
    [
        "nano",
        "nano max_new_tokens=50 adapter=false temperature=0.5",
        "nano llm=canary/qwen3-peft before=\"Say 'this': \"",
        "nano projector=canary/scaled factor=0.25",
        'nano prompt-template=canary/context-prompt terms="Zo\u00eb, NeMo"',
        "canary-qwen-2.5b encoder=canary/fastconformer-local left_context=7",
    ],
)
def test_a_lane_is_shown_and_read_back(picker: Picker, text: str) -> None:
    lane = parse_lane(text)
    read = picker.lane(values_of(picker, picker.show(lane)))
    assert sorted(str(read).split()) == sorted(str(lane).split())
    assert (read.stack, read.components, read.segmenter) == (lane.stack, lane.components, lane.segmenter)


def test_nothing_changed_is_the_stack_alone(picker: Picker) -> None:
    assert picker.lane([widget.value for widget in picker.inputs]) == Lane("nano")


def test_a_stack_whose_parts_are_on_their_way_is_that_stack_alone(picker: Picker) -> None:
    before = values_of(picker, picker.show(parse_lane("nano llm=canary/qwen3-peft adapter=false")))
    now = ["canary-qwen-2.5b", *before[1:]]
    assert picker.lane(now) == Lane("canary-qwen-2.5b")
    picked = picker._part_picked(*now[: len(picker.parts)])
    assert all(update == gr.skip() for update in picked), "what comes with the parts must not be overwritten"


def test_a_shared_result_is_shown_as_text(tmp_path: Path) -> None:
    shared = SharedResults(tmp_path)
    saved = shared.save(Result(BAD, 2.0, "nano", [SegmentResult(0, 2, BAD, 20, 3, 0.2)], {"audio": 0.1}, (BAD,)))
    found = shared.open(saved.id)
    html = heading(found) + body(found)
    assert "<img" not in html
    assert "&lt;img" in html
    assert f"result={saved.id}" in created(saved)
    with gr.Blocks():
        view = SharedView(shared)
    assert "no shared result" in view.opened("../../etc")[1]
    assert view.opened(saved.id)[-1] == saved.id


def test_a_card_keeps_the_window(hub: Hub) -> None:
    lane = parse_lane("nano encoder=canary/fastconformer-local window=12.5")
    assert LaneForm.of(hub, lane).lane(hub) == lane


def test_a_lane_goes_to_another_process_as_it_is(picker: Picker) -> None:
    """What a line has no form for (null, lists) is kept; an address leaves it out."""
    from canary_hub.ui.share.permalink import _sayable

    lane = Lane("nano", {Stage.LLM: "canary/qwen3-peft"}, {"llm.seed": None, "adapter": False, "many": [1]}, window=20)
    assert pickle.loads(pickle.dumps(lane)) == lane
    assert _sayable(lane).options == {"adapter": "false"}
