"""The kit for plugin authors: what is built in passes it, what is broken fails it, new plugins start from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ORACLE

from canary_hub import Hub
from canary_hub.cli import main
from canary_hub.cli.new_plugin import plugin_files
from canary_hub.specs import Stage
from canary_hub.testing import (  # noqa: F401
    EncoderConformance,
    LLMConformance,
    PreprocessorConformance,
    ProjectorConformance,
    PromptTemplateConformance,
    hub,
    tmp_plugin,
)

SPEECH = ORACLE / "audio" / "slice1p3.wav"


CONFORMANCE = {
    Stage.PREPROCESSOR: PreprocessorConformance,
    Stage.ENCODER: EncoderConformance,
    Stage.PROJECTOR: ProjectorConformance,
    Stage.PROMPT_TEMPLATE: PromptTemplateConformance,
    Stage.LLM: LLMConformance,
}


class OverTheOracle:
    def weights(self, folder: Path) -> Mapping[str, Path]:
        return {"canary": ORACLE / "checkpoint", "canary-llm": ORACLE / "llm"}


class TestLogMel(OverTheOracle, PreprocessorConformance):
    component = "canary/log-mel"
    atol = 1e-3  # of features with a standard deviation of 1


class TestLibrosaLogMel(OverTheOracle, PreprocessorConformance):
    component = "librosa/log-mel"
    atol = 1e-3


class TestDenoiseLogMel(OverTheOracle, PreprocessorConformance):
    component = "canary/denoise-log-mel"
    atol = 1e-3


class TestFastConformer(OverTheOracle, EncoderConformance):
    component = "canary/fastconformer"


class TestFastConformerLocal(OverTheOracle, EncoderConformance):
    component = "canary/fastconformer-local"


class TestLinear(OverTheOracle, ProjectorConformance):
    component = "canary/linear"


class TestScaled(OverTheOracle, ProjectorConformance):
    component = "canary/scaled"
    build_options = {"factor": 0.5}  # noqa: RUF012


class TestChatPrompt(OverTheOracle, PromptTemplateConformance):
    component = "canary/chat-prompt"


class TestChatPromptAudio(OverTheOracle, PromptTemplateConformance):
    component = "canary/chat-prompt-audio"


class TestContextPrompt(OverTheOracle, PromptTemplateConformance):
    component = "canary/context-prompt"


class TestCustomPrompt(OverTheOracle, PromptTemplateConformance):
    component = "canary/custom-prompt"


class TestQwen3(OverTheOracle, LLMConformance):
    component = "canary/qwen3"


class TestQwen3Peft(OverTheOracle, LLMConformance):
    component = "canary/qwen3-peft"


# What is broken fails

BROKEN: list[tuple[str, Stage, str, str, str]] = [
    ("test_keeps_its_contract", Stage.ENCODER, "dim=D_MODEL", "dim=D_MODEL + 1", "144 dimensions come out, not 145"),
    ("test_keeps_its_contract", Stage.ENCODER, "rate_hz=100.0 / FACTOR", "rate_hz=25.0", "25 come out in 2.0 s"),
    ("test_keeps_its_contract", Stage.PROMPT_TEMPLATE, "            AudioSlot(),\n", "", "no AudioSlot"),
    ("test_keeps_its_contract", Stage.LLM, "dim=HIDDEN_SIZE", "dim=64", "embeds have 128 dimensions, not 64"),
    ("test_padding_does_not_change_the_result", Stage.ENCODER, "masked_fill(outside[:, None], 0)", "clone()", "noise"),
    ("test_padding_does_not_change_the_result", Stage.PREPROCESSOR, ".masked_fill(outside, 0.0)", "", "with noise"),
    ("test_padding_does_not_change_the_result", Stage.LLM, ".masked_fill(~mask, 0.0)", "", "padded with noise"),
    ("test_batch_equals_singles", Stage.LLM, "/ mask.sum(1)", "/ mask.shape[1]", "in a batch the result differs"),
    ("test_batch_equals_singles", Stage.PROJECTOR, "self.weight.T, l", "self.weight.T + len(hidden), l", "in a batch"),
    ("test_an_empty_clip_costs_itself_alone", Stage.ENCODER, "lengths + FACTOR", "lengths + 1 + FACTOR", "empty clip"),
    ("test_same_seed_same_result", Stage.ENCODER, ".manual_seed(0)", ".manual_seed(torch.seed())", "two runs"),
    ("test_states_its_bytes", Stage.ENCODER, "= weight.nbytes", "= 1", "nbytes is 1, its tensors hold 73728"),
    ("test_is_described", Stage.PROMPT_TEMPLATE, ', description="The words before the audio"', "", "no description"),
    ("test_is_described", Stage.ENCODER, "broken/encoder", "canary/mine", "namespace of canary/mine is taken"),
    ("test_typed_text_stays_text", Stage.PROMPT_TEMPLATE, "Text(options.question)", "Text(options.question, True)",
     "becomes a control token"),
    ("test_typed_text_stays_text", Stage.LLM, "ids += piece.text.encode()", "ids += [END]", "became a control token"),
    ("test_listing_imports_nothing_heavy", Stage.ENCODER, "N_MELS, D", "import numpy\nN_MELS, D", "imports numpy"),
    ("test_a_missing_dependency_names_the_install_hint", Stage.ENCODER, "contract=CONTRACT,",
     "contract=CONTRACT, requires=('numpy',),", "no install hint"),
]  # fmt: skip


@pytest.mark.parametrize(("test", "stage", "good", "bad", "why"), BROKEN)
def test_what_is_broken_fails(
    test: str, stage: Stage, good: str, bad: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = plugin_files("broken", stage)["src/canary_hub_broken/plugin.py"]
    assert good in source
    name = tmp_path.name
    (tmp_path / f"{name}.py").write_text(source.replace(good, bad))
    monkeypatch.syspath_prepend(tmp_path)

    class Case(CONFORMANCE[stage]):
        component = "canary/mine" if bad == "canary/mine" else f"broken/{stage.value}"
        plugin = name

    case = Case()
    more = {"tmp_path": tmp_path, "monkeypatch": monkeypatch}
    wanted = getattr(case, test).__code__.co_varnames[2 : getattr(case, test).__code__.co_argcount]
    with pytest.raises(AssertionError, match=why):
        getattr(case, test)(case.subject_in(tmp_path), **{key: more[key] for key in wanted})


def test_a_missing_dependency_with_its_hint_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Case(OverTheOracle, LLMConformance):
        component = "canary/qwen3-peft"

    case = Case()
    case.test_a_missing_dependency_names_the_install_hint(case.subject_in(tmp_path), monkeypatch)


def test_weights_that_the_test_forgot_are_named(tmp_path: Path) -> None:
    class Case(EncoderConformance):
        component = "canary/fastconformer"

    with pytest.raises(AssertionError, match="reads weights canary, canary-llm"):
        Case().subject_in(tmp_path)


def test_the_hub_of_the_kit_runs_the_fakes_and_nothing_else(hub: Hub) -> None:  # noqa: F811
    assert {record.name for record in hub.records if record.ok} == {"canary_qwen", "nano", "fakes"}
    with hub.load("fake", device="cpu") as stack:
        heard = [stack.transcribe(SPEECH, question=words).text for words in ("What?", "What?", "Who was it?")]
    assert heard[0] == heard[1] != heard[2]


def test_tmp_plugin_gives_a_hub(tmp_plugin: Callable[[str], Hub]) -> None:  # noqa: F811
    made = tmp_plugin(plugin_files("tiny", Stage.ENCODER)["src/canary_hub_tiny/plugin.py"])
    with made.load("fake", components={Stage.ENCODER: "tiny/encoder"}, device="cpu") as stack:
        assert stack.transcribe(SPEECH).segments[0].tokens > 0
    assert tmp_plugin("1 / 0").records[-1].error == "ZeroDivisionError: division by zero"


# canary-hub new-plugin


@pytest.mark.parametrize("stage", list(Stage))
def test_a_new_plugin_is_listed_and_runs(stage: Stage, tmp_path: Path) -> None:
    name = f"new-{stage.value}"
    done = CliRunner().invoke(main, ["new-plugin", name, "--stage", stage.value, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    chosen = [f"--{stage.value}", f"{name}/{stage.value}", "--plugins-dir", str(tmp_path), "--stack", "nano"]
    listed = CliRunner().invoke(main, ["components", stage.value, "--plugins-dir", str(tmp_path)])
    assert f"{name}/{stage.value}" in listed.output
    run = CliRunner().invoke(main, ["transcribe", str(SPEECH), *chosen, "-o", "max_new_tokens=3"])
    assert run.exit_code == 0, run.output


@pytest.mark.parametrize("name", ["Mine", "my_encoder", "../mine", "my--encoder", "canary-hub-", "canary", "fake"])
def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["new-plugin", name, "--stage", "encoder", "--out", str(tmp_path)])
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "canary-hub-mine").mkdir()
    done = CliRunner().invoke(main, ["new-plugin", "mine", "--stage", "llm", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "exists already" in done.output
    assert not list((tmp_path / "canary-hub-mine").iterdir())
