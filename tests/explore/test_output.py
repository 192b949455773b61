"""What the explorations print, plot and hand out as JSON, through the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ORACLE

from canary_hub import Hub, HubError
from canary_hub.cli import main
from canary_hub.explore import EXPLORATIONS, explore
from canary_hub.explore.exploration import Exploration
from canary_hub.explore.report import Chart, Section, Series, count, sections, shown, size

SHORT = ORACLE / "audio" / "slice1p3.wav"
STACKS = ("nano", "canary-qwen-2.5b")


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))
    monkeypatch.setenv("CANARY_HUB_PLUGINS_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "140")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["explore", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", EXPLORATIONS)
def test_every_exploration_as_sections_and_json(hub: Hub, name: str, stack: str) -> None:
    found = explore(name, hub, stack)
    assert isinstance(found, Exploration)
    as_json = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (as_json["exploration"], as_json["stack"]) == (name, stack)
    assert bool(found.limits) == (stack != "nano" and name != "structure")
    seen = sections(found)
    assert len(seen) >= 3 or (name, stack) == ("injection", "nano")
    assert len({section.title for section in seen}) == len(seen)
    for section in seen:
        assert section.sentence.endswith(".")
        assert "\n" not in section.sentence
        assert section.tables or section.charts or name == "weights"
        for table in section.tables:
            assert {len(row) for row in table.rows} == {len(table.columns)}
            assert set(table.right) <= set(table.columns)
        for chart in section.charts:
            assert all(len(series.x) == len(series.y) > 0 for series in chart.series)


def test_the_reports_hold_the_figures() -> None:
    structure = run("structure", "--stack", "canary-qwen-2.5b")
    for figure in ("Embedding(151936, 2048)", "16 / 8", "2048 -> 6144 -> 2048", "tied to the embeddings", "112.0 KiB"):
        assert figure in structure
    lora = run("lora", "--stack", "canary-qwen-2.5b")
    lora = " ".join(lora.split())
    for figure in ("2.0 = alpha / r = 256 / 128", "25.7M", "1.75B", "1.47 %", "98.53 %"):
        assert figure in lora
    weights = run("weights", "--stack", "canary-qwen-2.5b")
    for figure in ("1,718 tensors", "421 are the LLM's", "112 are LoRA's", "309 of the base", "1,296"):
        assert figure in weights
    injection = run("injection", "--stack", "canary-qwen-2.5b", "--audio", str(ORACLE / "audio" / "speech.wav"))
    for figure in ("9 + 1 + 5 = 15 tokens become 14 + N embeddings", "id 151669", "N = 138", "80 ms"):
        assert figure in " ".join(injection.split())
    generation = run("generation", "--audio", str(SHORT))
    for figure in ("greedy", "at most 448 tokens", "end token", "adapter off", "temperature 0.7"):
        assert figure in " ".join(generation.split())


def test_the_command_takes_stack_options(tmp_path: Path) -> None:
    found = json.loads(
        run("generation", "--json", "--audio", str(SHORT), "--llm", "canary/qwen3-peft", "-o", "llm.seed=3")
    )
    assert found["settings"]["seed"] == 3
    assert found["runs"][0]["title"] == "greedy"
    found = json.loads(run("weights", "--json", "--checkpoint", str(ORACLE / "checkpoint"), "--stack", "nano"))
    assert found["compared_with"] == "nano"
    assert found["reshaped"]
    found = json.loads(run("structure", "--json", "--stack", "nano", "--dtype", "bfloat16"))
    assert found["cache"]["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["weights", "--checkpoint", "nowhere"], "No file or folder 'nowhere'"),
        (["structure", "--stack", "nanoo"], "nano"),
        (["injection", "--audio", "nowhere.wav"], "nowhere.wav"),
        (["lora", "--dtype", "int3"], "int3"),
        (["structure", "--dtype", "int3"], "int3"),
    ],
)
def test_bad_input_is_answered_in_words(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["explore", *arguments])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_plots_are_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["explore", "injection", "--audio", str(SHORT), "--plots", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    written = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in written] == ["injection-norms.png", "injection-padding.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert str(written[0]) in result.stderr


def test_charts_draw_what_they_hold() -> None:
    from canary_hub.explore.plots import draw

    lines = tuple(Series(f"layer {i}", (0.0, 1.0), (float(i), 2.0)) for i in range(28))
    (axes,) = draw(Chart("x", "t", "line", "a", "b", lines)).axes
    assert [tuple(line.get_ydata()) for line in axes.lines] == [series.y for series in lines]
    assert len(axes.get_legend().get_texts()) == 4
    bars = (Series("one", ("a$", "b"), (1.0, 2.0)), Series("two", ("a$", "b"), (3.0, 4.0)))
    (axes,) = draw(Chart("x", "t", "bar", "", "n", bars)).axes
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 1), (0, 2), (1, 3), (2, 4)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a$", "b"]


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from canary_hub.explore.plots import write

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    chart = Chart("x", "t", "line", "a", "b", (Series("s", (0.0,), (1.0,)),))
    with pytest.raises(HubError, match="matplotlib") as raised:
        write([Section("t", "s.", charts=(chart,))], tmp_path, "structure")
    assert "canary-hub[plots]" in raised.value.hint


def test_tokens_cannot_write_markup() -> None:
    from rich.console import Console

    from canary_hub.cli.explore import show
    from canary_hub.explore.report import Table

    console = Console(width=80, record=True)
    show([Section("t", "[bold]s[/bold].", (Table(("a",), (("[/b] [red]",),)),))], console)
    text = console.export_text()
    assert "[/b] [red]" in text
    assert "[bold]s[/bold]." in text


def test_numbers_in_words() -> None:
    assert [count(n) for n in (0, 128, 9999, 25_690_112, 1_746_265_088)] == ["0", "128", "9999", "25.7M", "1.75B"]
    assert [size(n) for n in (12, 114_688, 3 * 2**30)] == ["12 bytes", "112.0 KiB", "3.00 GiB"]
    assert [shown(piece) for piece in (" the", "\n", "  ", "a")] == ["\u2423the", "\\n", "\u2423\u2423", "a"]


def test_the_former_name_of_structure_still_works() -> None:
    result = CliRunner().invoke(main, ["explore", "qwen", "--json", "--stack", "nano"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["exploration"] == "structure"
    assert "explore structure" in result.stderr
    assert "qwen" not in run("--help")
