"""The benchmark and its random checkpoints, on the sizes of oracle set_a."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from canary_hub import Hub, HubError
from canary_hub.bench import Measures, bench
from canary_hub.bench.one_run import same_choices
from canary_hub.bench.random_checkpoint import write_random_checkpoint
from canary_hub.models.canary_qwen.layout import checkpoint_shapes
from canary_hub.models.canary_qwen.options import Qwen3Call
from canary_hub.specs import Stage

SET_A = Path(__file__).parents[1] / "oracle" / "set_a"
PUBLISHED = Path(__file__).parents[2] / "canary_hub" / "models" / "canary_qwen" / "published"


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


@pytest.fixture
def configs() -> tuple[dict, dict]:
    return read(SET_A / "checkpoint" / "config.json"), read(SET_A / "llm" / "config.json")


@pytest.fixture
def random_folder(tmp_path, configs) -> Path:
    return write_random_checkpoint(tmp_path / "random", *configs)


@pytest.fixture
def small_hub(tmp_path, monkeypatch) -> Hub:
    """A hub whose plugin offers stack `small`: the sizes of set_a, with no weights of its own."""
    plugin = tmp_path / "plugins" / "small.py"
    plugin.parent.mkdir()
    plugin.write_text(
        f"""
from pathlib import Path
from canary_hub.models.canary_qwen.checkpoint import BASE_LLM, CHECKPOINT, COMPONENTS
from canary_hub.hookspecs import hookimpl
from canary_hub.specs import StackSpec, WeightsRef

@hookimpl
def canary_stacks():
    base = Path({str(SET_A)!r})
    weights = {{CHECKPOINT: WeightsRef(path=base / "checkpoint"), BASE_LLM: WeightsRef(path=base / "llm")}}
    return [StackSpec(name="small", components=COMPONENTS, weights=weights, dtype="bfloat16")]
""",
        "utf-8",
    )
    monkeypatch.setenv("CANARY_HUB_CACHE", str(tmp_path / "cache"))
    return Hub(plugin.parent)


def test_random_checkpoint_loads_and_gives_finite_numbers(random_folder):
    import torch

    weights = {"canary": random_folder, "canary-llm": random_folder / "llm"}
    with Hub().load("canary-qwen-2.5b", weights=weights, dtype="bfloat16", device="cpu") as stack:
        wav = 0.1 * torch.randn(1, 16000)
        hidden, lengths = wav, torch.tensor([16000])
        for stage in (Stage.PREPROCESSOR, Stage.ENCODER, Stage.PROJECTOR):
            hidden, lengths = stack.component(stage)(hidden, lengths)
            assert hidden.isfinite().all()
        assert hidden.float().std() > 0.1
        llm = stack.component(Stage.LLM)
        step = next(llm.generate(hidden, torch.ones(hidden.shape[:2], dtype=torch.bool), stack.options[Stage.LLM]))
        assert step.logits.isfinite().all()


def test_random_checkpoint_has_the_real_filterbank_and_window(random_folder):
    from safetensors.torch import load_file

    ours = load_file(random_folder / "model.safetensors")
    real = load_file(SET_A / "checkpoint" / "model.safetensors")
    assert {name: (t.dtype, t.shape) for name, t in ours.items()} == {
        name: (t.dtype, t.shape) for name, t in real.items()
    }
    for name in ("fb", "window"):
        key = f"perception.preprocessor.featurizer.{name}"
        assert (ours[key].float() - real[key].float()).abs().max() < 1e-4


def test_published_shapes_are_those_of_the_real_file():
    shapes = checkpoint_shapes(read(PUBLISHED / "config.json"), read(PUBLISHED / "llm_config.json"))
    assert len(shapes) == 1718
    assert sum(math.prod(shape) for shape in shapes.values()) == 2_559_447_600


def test_random_checkpoint_is_kept_and_the_seed_decides(tmp_path, configs, random_folder):
    file = random_folder / "model.safetensors"
    written = file.stat().st_mtime_ns
    write_random_checkpoint(random_folder, *configs)
    assert file.stat().st_mtime_ns == written
    same = write_random_checkpoint(tmp_path / "same", *configs)
    other = write_random_checkpoint(tmp_path / "other", *configs, seed=1)
    assert (same / file.name).read_bytes() == file.read_bytes() != (other / file.name).read_bytes()


def test_random_checkpoint_of_other_sizes_is_replaced(configs, random_folder):
    config, llm = configs
    llm = {**llm, "vocab_size": llm["vocab_size"] + 8}
    before = (random_folder / "model.safetensors").stat().st_size
    write_random_checkpoint(random_folder, config, llm)
    assert (random_folder / "model.safetensors").stat().st_size > before


def test_no_room_is_said_before_anything_is_written(tmp_path, configs, monkeypatch):
    import collections

    usage = collections.namedtuple("usage", "total used free")(10, 10, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(HubError, match="GiB free"):
        write_random_checkpoint(tmp_path / "random", *configs)
    assert not list(tmp_path.iterdir())


def test_the_command_measures_everything(small_hub, tmp_path):
    from canary_hub.cli import main

    arguments = ["bench", "--plugins-dir", str(tmp_path / "plugins"), "--random-weights", "small"]
    arguments += ["--llm", "canary/qwen3-int8", "--agree-with", "canary/qwen3"]
    arguments += [
        "--seconds",
        "2",
        "--tokens",
        "5",
        "--batch",
        "2",
        "--runs",
        "1",
        "--json",
        str(tmp_path / "out.json"),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "ms per token" in result.output
    # Rows of a batch are not multiplied in int8: nothing may differ.
    assert "10 of 10 tokens are those of canary/qwen3" in result.output
    assert (tmp_path / "cache" / "bench" / "small" / "model.safetensors").is_file()
    report = read(tmp_path / "out.json")
    assert report["random_weights"]
    assert (report["stack"], report["dtype"]) == ("small", "bfloat16")
    assert report["tokens"] == 5  # whatever the noise says, no end token ends it
    assert report["positions"] > 25
    assert report["agreement"] == {"llm": "canary/qwen3", "same": 10, "of": 10}
    assert len(report["runs"]) == 1
    assert set(report["median"]) == {field.name for field in fields(Measures)}
    assert all(value > 0 for value in report["median"].values()), report["median"]
    assert report["median"]["peak_gib"] > report["median"]["anonymous_gib"]
    assert {"cpu", "cores", "flags", "torch", "threads"} <= set(report["machine"])


def test_a_backend_is_led_along_the_expected_tokens(small_hub):
    """One other token among them costs its own step alone, if what follows is what the LLM then says."""
    import torch

    llm = small_hub.load("small", dtype="float32", device="cpu").component(Stage.LLM)
    llm.tokenizer.eos_ids = ()
    embeds = llm.embed(torch.arange(1, 11)[None])

    def answer(prompt: torch.Tensor, tokens: int):
        return llm.generate(prompt, torch.ones(prompt.shape[:2], dtype=torch.bool), Qwen3Call(max_new_tokens=tokens))

    own = [step.ids for step in answer(embeds, 5)]
    assert same_choices(llm, lambda: answer(embeds, 5), own) == 5
    other = [*own[:2], ((own[2][0] + 1) % 300,)]
    after = torch.cat([embeds, llm.embed(torch.tensor(other).T)], dim=1)
    led = other + [step.ids for step in answer(after, 2)]
    assert same_choices(llm, lambda: answer(embeds, 5), led) == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dtype": "float7"}, "no dtype"),
        ({"tokens": 1}, "Nothing to measure"),
        ({"llm": "canary/qwen"}, "canary/qwen3"),
        ({"agree_with": "canary/qwen"}, "canary/qwen3"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_written(small_hub, tmp_path, wrong, said):
    with pytest.raises(HubError, match=said):
        bench(small_hub, "small", random_weights=True, **wrong)
    assert not (tmp_path / "cache" / "bench").exists()


def test_what_a_run_raises_is_told(small_hub, tmp_path):
    (tmp_path / "plugins" / "small.py").unlink()
    with pytest.raises(HubError, match="small"):  # the new process does not find the plugin
        bench(small_hub, "small", runs=1)
