"""Checkpoints: every tensor accounted for, wrong ones refused by name, nothing copied that can stay mapped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHARED
from safetensors.torch import load_file, save_file

from canary_hub import Hub
from canary_hub.errors import WeightsError
from canary_hub.models.canary_qwen import layout
from canary_hub.models.canary_qwen.checkpoint import PUBLISHED, PUBLISHED_LLM
from canary_hub.specs import Stage
from canary_hub.weights.checkpoint import Checkpoint
from canary_hub.weights.tensors import TensorFiles, check_names

Tensors = dict[str, torch.Tensor]
Q = "llm.base_model.model.model.layers.1.self_attn.q_proj.base_layer.weight"


@pytest.fixture
def copy(oracle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the oracle's checkpoint with its tensors changed."""

    def make(change: Callable[[Tensors], Any] = lambda tensors: None) -> Path:
        folder = tmp_path / "checkpoint"
        shutil.copytree(oracle / "checkpoint", folder)
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")
        return folder

    return make


def load(hub: Hub, folder: Path, oracle: Path, llm: Path | None = None, **kwargs: Any) -> Any:
    weights = {"canary": folder, "canary-llm": llm or oracle / "llm"}
    return hub.load("canary-qwen-2.5b", weights=weights, dtype="float32", device="cpu", **kwargs)


def test_a_renamed_tensor_is_refused_by_both_names(hub: Hub, copy: Any, oracle: Path) -> None:
    folder = copy(lambda tensors: tensors.update({"llm.renamed": tensors.pop(Q)}))
    with pytest.raises(WeightsError) as error:
        load(hub, folder, oracle)
    assert f"1 missing: {Q}" in str(error.value)
    assert "1 unexpected: llm.renamed" in str(error.value)


def test_a_dropped_tensor_is_refused_by_name(hub: Hub, copy: Any, oracle: Path) -> None:
    name = "perception.encoder.layers.0.conv.batch_norm.running_var"
    with pytest.raises(WeightsError, match=f"missing: {name}"):
        load(hub, copy(lambda tensors: tensors.pop(name)), oracle)


def test_a_reshaped_tensor_is_refused_with_both_shapes(hub: Hub, copy: Any, oracle: Path) -> None:
    def reshape(tensors: Tensors) -> None:
        tensors["perception.proj.weight"] = tensors["perception.proj.weight"][:, :32].clone()

    with pytest.raises(WeightsError, match=r"perception.proj.weight is \[64, 32\] instead of \[64, 64\]"):
        load(hub, copy(reshape), oracle)


def test_every_missing_config_key_is_named(hub: Hub, copy: Any, oracle: Path) -> None:
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    del config["perception"]["encoder"]["d_model"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Exception, match=r"perception\.encoder\.d_model|d_model"):
        load(hub, folder, oracle)


def test_a_variant_we_do_not_compute_is_refused(hub: Hub, copy: Any, oracle: Path) -> None:
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    config["perception"]["encoder"]["causal_downsampling"] = True
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="causal_downsampling"):
        load(hub, folder, oracle)


def test_sharded_equals_whole(hub: Hub, copy: Any, oracle: Path) -> None:
    folder = copy()
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: tensors[name] for name in chosen}, folder / file)
    weight_map = {name: file for file, chosen in parts.items() for name in chosen}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    speech = oracle / "audio" / "slice1p3.wav"
    whole = load(hub, oracle / "checkpoint", oracle)
    assert load(hub, folder, oracle).transcribe(speech).text == whole.transcribe(speech).text
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match="00002-of-00002"):
        TensorFiles(folder)


def test_without_embeddings_the_base_llms_are_used(hub: Hub, copy: Any, oracle: Path, tmp_path: Path) -> None:
    table = load_file(oracle / "checkpoint" / "model.safetensors")["embed_tokens.weight"]
    folder = copy(lambda tensors: tensors.pop("embed_tokens.weight"))
    llm = tmp_path / "llm"
    shutil.copytree(oracle / "llm", llm)
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load(hub, folder, oracle, llm)
    save_file({"model.embed_tokens.weight": table}, llm / "model.safetensors")
    stack = load(hub, folder, oracle, llm)
    assert torch.equal(stack.component(Stage.LLM).model.lm_head.weight, table.float())


def test_pickles_are_refused_by_name(hub: Hub, copy: Any, oracle: Path) -> None:
    folder = copy()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin.*\n.*never opened"):
        load(hub, folder, oracle)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:1000], lambda b: b[: len(b) // 2], lambda b: b"no", lambda b: b"\xff" * 64]
)
def test_a_damaged_file_is_refused(hub: Hub, copy: Any, oracle: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = copy()
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match="truncated or damaged"):
        load(hub, folder, oracle)


def test_shards_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    with pytest.raises(WeightsError, match=r"\.\./x\.safetensors"):
        TensorFiles(tmp_path)


def test_the_published_layout_has_the_published_counts() -> None:
    shapes = layout.checkpoint_shapes(Checkpoint(PUBLISHED).config, Checkpoint(PUBLISHED_LLM).config)
    llm = [name for name in shapes if name.startswith("llm.")]
    lora = [name for name in llm if ".lora_" in name]
    assert (len(shapes), len(llm), len(lora)) == (1718, 421, 112)
    assert len([name for name in shapes if name.startswith("perception.")]) == 1296
    assert shapes["embed_tokens.weight"] == (151936, 2048)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published header's listing is not shipped")
def test_the_published_layout_is_the_published_header() -> None:
    shapes = layout.checkpoint_shapes(Checkpoint(PUBLISHED).config, Checkpoint(PUBLISHED_LLM).config)
    found = {}
    for line in (SHARED / "oracle" / "checkpoint_keys.txt").read_text().splitlines():
        if not line.startswith("#"):
            count, rest = line.split(maxsplit=1)
            shape = tuple(json.loads(rest[rest.index("[") : rest.index("]") + 1]))
            name = line.split()[-1]
            for i in range(int(count)):
                found[name.replace(".N.", f".{i}.")] = shape
    assert shapes == found


def test_bfloat16_weights_stay_in_the_mapped_file(oracle: Path) -> None:
    files = TensorFiles(oracle / "checkpoint")
    tensor = files.tensor(Q)
    header = 8 + int.from_bytes((oracle / "checkpoint" / "model.safetensors").read_bytes()[:8], "little")
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc on this system")
    inside = [
        line
        for line in maps.read_text().splitlines()
        if "model.safetensors" in line
        and int(line.split("-")[0], 16) <= tensor.data_ptr() < int(line.split()[0].split("-")[1], 16)
    ]
    assert inside
    assert header > 8


def test_all_names_are_checked_at_once(oracle: Path) -> None:
    files = TensorFiles(oracle / "checkpoint")
    with pytest.raises(WeightsError, match=r"2 missing: x, y; 7 unexpected: .* and 1 more"):
        check_names(files, {"x": (1,), "y": (1,), **{name: files[name] for name in list(files)[:-7]}})
