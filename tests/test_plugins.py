"""Plugins: found, isolated, refused with their error; and a swapped component really runs."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import gradio as gr
import pytest
from click.testing import CliRunner
from conftest import ORACLE

from canary_hub import Hub
from canary_hub.cli import main
from canary_hub.errors import ContractError, PluginError, UnknownNameError
from canary_hub.lanes import Lane, parse_lane
from canary_hub.specs import Stage
from canary_hub.ui.api import endpoints
from canary_hub.ui.widgets.picker import component_pickers, stack_picker

HEAD = """
from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Options, Port, Stage, StackSpec, WeightsRef
"""

ENCODER = HEAD + dedent(
    """
    class Every8th:
        def __call__(self, features, lengths):
            return features[:, :{dim}, ::8].transpose(1, 2), (lengths + 7) // 8

    def build(build):
        return Every8th()

    @hookimpl
    def canary_components():
        return [ComponentSpec(
            stage=Stage.ENCODER, id="{id}", factory=__name__ + ":build",
            contract=Contract((Port("features", dim=128),), (Port("hidden", dim={dim}, rate_hz=12.5),)),
        )]
    """
)


def encoder(id: str = "test/every-8th", dim: int = 64) -> str:
    return ENCODER.replace("{dim}", str(dim)).replace("{id}", id)


WEIGHTS = {"canary": ORACLE / "checkpoint", "canary-llm": ORACLE / "llm"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.py").write_text(encoder())
    return tmp_path


def record(hub: Hub, name: str):
    return next(r for r in hub.records if r.name == name)


def test_a_dropped_in_encoder_is_chosen_by_name_and_runs(folder: Path) -> None:
    hub = Hub(folder)
    stack = hub.load("canary-qwen-2.5b", components={Stage.ENCODER: "test/every-8th"}, weights=WEIGHTS, dtype="float32")
    result = stack.transcribe(ORACLE / "audio" / "slice1p3.wav", max_new_tokens=3)
    assert result.segments[0].audio_frames == 17
    assert result.segments[0].tokens == 3
    assert any("not trained together" in warning for warning in result.warnings)


def test_a_contract_may_be_a_function_of_what_the_factory_gets(folder: Path) -> None:
    source = re.sub(r"contract=.*,\n", "contract=contract, weights={'canary': None},\n", encoder())
    function = """
def contract(build):
    dim = build.weights["canary"].config["perception"]["encoder"]["d_model"]
    return Contract((Port("features", dim=128),), (Port("hidden", dim=dim, rate_hz=12.5),))
"""
    (folder / "good.py").write_text(source + function)
    hub = Hub(folder)
    spec = hub.stack("canary-qwen-2.5b", components={Stage.ENCODER: "test/every-8th"}, weights=WEIGHTS)
    assert hub.check(spec).problems == ()
    assert "Its sizes follow from the weights" in endpoints._contract(hub, hub.registry.component("test/every-8th"))


def test_what_does_not_fit_is_refused_with_every_problem_at_once(folder: Path) -> None:
    (folder / "bad.py").write_text(encoder("test/wide", 96).replace("rate_hz=12.5", "rate_hz=25.0"))
    (folder / "llm.py").write_text(
        HEAD
        + dedent(
            """
            @hookimpl
            def canary_components():
                return [ComponentSpec(stage=Stage.LLM, id="test/llm", factory="nowhere.at_all:build",
                                      contract=Contract((Port("embeds", dim=7), Port("prompt", token="<x>"))))]
            """
        )
    )
    hub = Hub(folder)
    with pytest.raises(ContractError) as error:
        hub.load(
            "canary-qwen-2.5b",
            components={Stage.ENCODER: "test/wide", Stage.LLM: "test/llm"},
            weights={"canary": ORACLE / "checkpoint"},
        )
    message = str(error.value)
    assert (
        "encoder test/wide gives 96-dim hidden at 25 Hz, projector canary/linear expects 64-dim hidden at 12.5 Hz"
        in message
    )
    assert "gives 64-dim embeddings" in message
    assert "expects 7-dim embeddings" in message
    assert "with placeholder <x>" in message


BROKEN = {
    "syntax": ("def (:", "SyntaxError"),
    "misspelt": (HEAD + "@hookimpl\ndef canary_componets():\n    return []\n", "canary_componets"),
    "unmarked": (HEAD + "def canary_stacks():\n    return []\n", "no marker"),
    "taken": (encoder("canary/fastconformer"), "canary_qwen"),
    "raises": (HEAD + "@hookimpl\ndef canary_components():\n    raise RuntimeError('boom')\n", "RuntimeError: boom"),
    "exits": ("raise SystemExit(3)", "SystemExit"),
    "wrong": (HEAD + "@hookimpl\ndef canary_components():\n    return ['x']\n", "no ComponentSpec"),
    "old": (HEAD + "CANARY_HUB_API = 1\n", "hook version 1; this canary_hub has version 2"),
    "moved": ("from canary_hub.protocols import Build", "canary_hub.protocols, which this canary_hub does not have"),
    "missing": ("import surely_not_installed", "surely_not_installed"),
    "nocontract": (
        re.sub(r"contract=.*,\n", "contract=None,\n", encoder("test/none")),
        "give a Contract, a function or its name",
    ),
    "noptions": (
        HEAD
        + "from pydantic import BaseModel\nclass Free(BaseModel):\n    x: int = 1\n"
        + encoder("test/free").replace("contract=", "build_options=Free, contract="),
        "no subclass of canary_hub.specs.Options",
    ),
    "badstack": (
        HEAD + "@hookimpl\ndef canary_stacks():\n    return [StackSpec('my stack', dict.fromkeys(Stage, 'a/b'))]\n",
        "Stack name 'my stack' is not of lower-case letters",
    ),
    "badid": (encoder("NoNamespace"), "namespace/name"),
    "twice": (encoder().replace("return [C", "return 2 * [C"), "twice"),
}


REQUIRED = (
    encoder("test/voiced")
    .replace("contract=", "build_options=Voiced, contract=")
    .replace("class Every8th", "class Voiced(Options):\n    voice: str\n    speed: int = 1\n\nclass Every8th")
)


def test_an_option_without_a_default_is_asked_for_in_words(folder: Path) -> None:
    (folder / "voiced.py").write_text(REQUIRED)
    hub = Hub(folder)
    lane = "canary-qwen-2.5b encoder=test/voiced"
    (problem,) = [text for text in hub.check(parse_lane(lane)).problems if "voice" in text]
    assert problem == "test/voiced: Unusable option of test/voiced: voice has no default and must be given."
    assert not [text for text in hub.check(parse_lane(f"{lane} voice=low")).problems if "must be given" in text]
    listed = CliRunner().invoke(main, ["components", "test/voiced", "--plugins-dir", str(folder)])
    assert listed.exit_code == 0, listed.output
    assert "build option voice = (must be given)" in listed.output


def test_the_page_shows_an_option_without_a_default_as_not_given(folder: Path) -> None:
    (folder / "voiced.py").write_text(REQUIRED)
    hub = Hub(folder)
    with gr.Blocks():
        picker = stack_picker(hub, "nano")
        component_pickers(picker, "nano")
    (panel,) = [panel for panel in picker.panels if panel.spec.id == "test/voiced"]
    assert [option.widget.value for option in panel.fields] == [None, 1]
    values = [widget.value for widget in picker.inputs]
    at = picker.inputs.index(picker.components[Stage.ENCODER])
    values[at] = "test/voiced"
    assert picker.lane(values) == Lane("nano", {Stage.ENCODER: "test/voiced"})
    values[picker.inputs.index(panel.fields[0].widget)] = "low"
    assert picker.lane(values).options == {"voice": "low"}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_costs_itself_alone(folder: Path, name: str) -> None:
    source, expected = BROKEN[name]
    (folder / f"{name}.py").write_text(source)
    (folder / "zlast.py").write_text(encoder("test/last"))
    hub = Hub(folder)
    broken = record(hub, name)
    assert expected in broken.error
    assert not broken.components
    assert {"test/every-8th", "test/last", "canary/fastconformer"} <= set(hub.registry.components)
    assert record(hub, "zlast").ok
    shown = CliRunner().invoke(main, ["plugins", "--plugins-dir", str(folder)])
    assert shown.exit_code == 0
    assert expected in shown.output


def test_allow_and_block_act_before_import(folder: Path) -> None:
    marker = folder / "imported"
    (folder / "spy.py").write_text(f"open({str(marker)!r}, 'w').close()")
    assert not record(Hub(folder, block=["spy"]), "spy").ok
    assert not record(Hub(folder, allow=["good"]), "spy").ok
    assert not marker.exists()
    assert record(Hub(folder, allow=["good"]), "good").ok
    Hub(folder)
    assert marker.exists()


def distribution(folder: Path, name: str = "canary-hub-test-dist") -> None:
    package = folder / name / "src" / "canary_hub_test_dist"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(encoder("test/from-dist"))
    (folder / name / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1.2"\n'
        '[project.entry-points.canary_hub]\ntestdist = "canary_hub_test_dist"\n'
    )


def test_a_distribution_folder_works_uninstalled(tmp_path: Path) -> None:
    distribution(tmp_path)
    hub = Hub(tmp_path)
    assert record(hub, "testdist").version == "1.2"
    assert "test/from-dist" in hub.registry.components


def test_one_that_is_installed_too_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "canary-hub-test-dist" / "src")

    real = importlib.metadata.EntryPoint("testdist", "canary_hub_test_dist", "canary_hub")
    dist = SimpleNamespace(name="canary_hub_test_dist", version="1.2")
    entry = SimpleNamespace(name="testdist", dist=dist, load=real.load)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    hub = Hub(tmp_path)
    assert [r.origin for r in hub.records if r.name == "testdist"] == ["canary-hub-test-dist"]
    assert all(r.ok for r in hub.records)


def test_a_weights_hook_can_serve_an_offline_copy(tmp_path: Path) -> None:
    (tmp_path / "mirror.py").write_text(
        HEAD
        + dedent(
            f"""
            from pathlib import Path

            @hookimpl
            def canary_resolve_weights(ref):
                folders = {{"nvidia/canary-qwen-2.5b": "checkpoint", "Qwen/Qwen3-1.7B": "llm"}}
                return Path({str(ORACLE)!r}) / folders[ref.repo] if ref.repo in folders else None
            """
        )
    )
    hub = Hub(tmp_path)
    stack = hub.load("canary-qwen-2.5b", dtype="float32")
    assert stack.transcribe(ORACLE / "audio" / "slice1p3.wav", max_new_tokens=4).segments[0].tokens == 4


def test_a_plugin_adds_a_command(tmp_path: Path) -> None:
    (tmp_path / "cmd.py").write_text(
        HEAD + "import click\n@hookimpl\ndef canary_commands(group):\n"
        "    group.add_command(click.Command('greet', callback=lambda: click.echo('hello')))\n"
    )
    (tmp_path / "zbad.py").write_text(HEAD + "@hookimpl\ndef canary_commands(group):\n    1 / 0\n")
    result = CliRunner().invoke(main, ["--plugins-dir", str(tmp_path), "greet"])
    assert result.output == "hello\n"
    shown = CliRunner().invoke(main, ["plugins", "--plugins-dir", str(tmp_path)]).output
    assert "left out: its commands: ZeroDivisionError" in shown
    assert "not in use" not in shown


def test_two_copies_of_a_plugin_are_told_and_the_first_goes_on(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        project = tmp_path / folder / "pyproject.toml"
        project.parent.mkdir()
        project.write_text('[project]\nname = "copied"\n[project.entry-points.canary_hub]\ncopied = "copied_plugin"\n')
        (project.parent / "copied_plugin.py").write_text(
            HEAD + "import click\n@hookimpl\ndef canary_commands(group):\n"
            "    group.add_command(click.Command('greet', callback=lambda: click.echo('hello')))\n"
        )
    result = CliRunner().invoke(main, ["--plugins-dir", str(tmp_path), "greet"])
    assert result.output == "hello\n"
    first, second = (record for record in Hub(tmp_path).records if record.name == "copied")
    assert first.ok
    assert first.origin in second.error


def test_a_resolver_that_fails_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mirror.py").write_text(HEAD + "@hookimpl\ndef canary_resolve_weights(ref):\n    return {}[ref.repo]\n")
    hub = Hub(tmp_path)
    assert not hub.check(hub.stack("nano")).problems
    assert "plugin mirror cannot look for weights: KeyError" in caplog.text


def test_a_contract_that_fails_is_told_as_the_components(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        HEAD
        + dedent(
            """
            def tell(build):
                return {}["rate"]

            @hookimpl
            def canary_components():
                return [ComponentSpec(stage=Stage.ENCODER, id="test/odd", factory="nowhere:build",
                                      contract=__name__ + ":tell", requires=("nowhere.at_all",))]
            """
        )
    )
    hub = Hub(tmp_path)
    fit = hub.check(hub.stack("canary-qwen-2.5b", components={Stage.ENCODER: "test/odd"}, weights=WEIGHTS))
    assert any("test/odd failed while telling its contract: KeyError" in problem for problem in fit.problems)
    assert any("test/odd needs nowhere.at_all" in problem for problem in fit.problems)
    assert CliRunner().invoke(main, ["components", "--json", "--plugins-dir", str(tmp_path)]).exit_code == 0


@pytest.mark.parametrize("chosen", ["block", "allow"])
def test_the_environment_names_plugins_that_may_or_may_not_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(HEAD + f"print({name!r})\n")
    monkeypatch.setenv(f"CANARY_HUB_{chosen.upper()}_PLUGINS", "none, two")
    used = {record.name for record in Hub(tmp_path).records if record.ok and record.origin.startswith(str(tmp_path))}
    assert used == ({"one"} if chosen == "block" else {"two"})


def test_a_missing_dependency_names_the_install_hint(tmp_path: Path) -> None:
    (tmp_path / "needy.py").write_text(
        encoder().replace("factory=", 'requires=("surely_not_installed",), install="pip install it", factory=')
    )
    hub = Hub(tmp_path)
    with pytest.raises(ContractError, match="test/every-8th needs surely_not_installed: pip install it"):
        hub.load("canary-qwen-2.5b", components={Stage.ENCODER: "test/every-8th"}, weights=WEIGHTS)


def test_a_factory_that_cannot_be_imported_is_an_error_of_that_component(tmp_path: Path) -> None:
    (tmp_path / "lost.py").write_text(encoder().replace('__name__ + ":build"', '"surely.not_there:build"'))
    hub = Hub(tmp_path)
    with pytest.raises(PluginError, match="test/every-8th cannot be imported"):
        hub.load("canary-qwen-2.5b", components={Stage.ENCODER: "test/every-8th"}, weights=WEIGHTS)


def test_an_unknown_name_is_answered_with_the_nearest(hub: Hub) -> None:
    with pytest.raises(UnknownNameError, match="canary/fastconformer"):
        hub.registry.component("canary/fastconfomer")
    with pytest.raises(UnknownNameError, match=r"canary-qwen-2\.5b"):
        hub.registry.stack("canary-qwen")
    with pytest.raises(UnknownNameError, match="of stage projector, not of encoder"):
        hub.registry.component("canary/linear", Stage.ENCODER)


def test_off_on_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    from canary_hub.settings import default_plugins_dir

    monkeypatch.delenv("CANARY_HUB_PLUGINS_DIR", raising=False)
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert default_plugins_dir() is not None
    monkeypatch.setenv("SPACE_ID", "someone/demo")
    assert default_plugins_dir() is None
