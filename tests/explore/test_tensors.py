"""`explore weights` on files: only headers are read, and what is broken is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import ORACLE, ROOT
from safetensors.torch import load_file, save_file

from canary_hub import Hub
from canary_hub.errors import WeightsError
from canary_hub.explore import tensors as weights
from canary_hub.explore.report import sections
from canary_hub.weights.headers import read_headers

NANO = ROOT / "canary_hub" / "models" / "nano"


def test_a_file_of_any_size_is_read_by_its_header(hub: Hub, tmp_path: Path) -> None:
    shape = [2**20, 2**16]  # 128 GiB, of which the disk holds a few bytes
    header = json.dumps({"a.big": {"dtype": "BF16", "shape": shape, "data_offsets": [0, 2**37]}}).encode()
    path = tmp_path / "big.safetensors"
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**37)
    found = weights.explore(hub, "nano", checkpoint=path, best_fit=True)
    assert (found.tensors, found.parameters, found.nbytes) == (1, 2**36, 2**37)
    assert found.compared_with == ""
    assert "no stack" in found.limits[0]


def shards(folder: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(NANO / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return tensors


def test_shards_are_one_checkpoint(hub: Hub, tmp_path: Path) -> None:
    tensors = shards(tmp_path)
    for where in (tmp_path, tmp_path / "model.safetensors.index.json"):
        found = weights.explore(hub, "canary-qwen-2.5b", checkpoint=where, best_fit=True)
        assert found.tensors == len(tensors)
        assert found.nbytes == sum(tensor.nbytes for tensor in tensors.values())
        assert found.compared_with == "nano"
        assert [file.tensors for file in found.files] == [152, 151]
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-2.safetensors is missing"):
        read_headers(tmp_path)


def test_names_that_do_not_agree_are_listed(hub: Hub, tmp_path: Path) -> None:
    tensors = load_file(NANO / "model.safetensors")
    del tensors["perception.proj.bias"]
    tensors["perception.extra"] = torch.zeros(3)
    tensors["llm.base_model.model.model.norm.weight"] = torch.ones(5)
    save_file(tensors, tmp_path / "model.safetensors")
    found = weights.explore(hub, "nano", checkpoint=tmp_path)
    assert found.missing == ("perception.proj.bias",)
    assert found.unused == ("perception.extra",)
    assert found.reshaped == ("llm.base_model.model.model.norm.weight",)
    assert "3 names do not agree" in sections(found)[-1].sentence
    assert next(kind for kind in found.kinds if kind.pattern == "perception.extra").module == ""


def test_embeddings_and_head_may_be_absent_or_double(hub: Hub, tmp_path: Path) -> None:
    tensors = load_file(NANO / "model.safetensors")
    table = tensors.pop("embed_tokens.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    found = weights.explore(hub, "nano", checkpoint=tmp_path)
    assert found.missing == ("embed_tokens.weight",)
    assert "can be loaded" in sections(found)[-1].sentence
    tensors["llm.base_model.model.lm_head.weight"] = tensors["embed_tokens.weight"] = table
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    found = weights.explore(hub, "nano", checkpoint=tmp_path)
    assert (found.missing, found.unused) == ((), ("llm.base_model.model.lm_head.weight",))
    assert "can be loaded" in sections(found)[-1].sentence


def test_another_size_of_the_same_layout_is_no_stack_of_the_registry(hub: Hub) -> None:
    found = weights.explore(hub, "nano", checkpoint=ORACLE / "checkpoint", best_fit=True)
    assert found.compared_with == ""
    assert {group.name for group in found.groups if not group.depth} == {"llm", "perception", "embed_tokens"}


def test_every_dtype_has_its_size(tmp_path: Path) -> None:
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8,
              torch.bool, torch.float8_e4m3fn]  # fmt: skip
    tensors = {str(dtype): torch.zeros(3, 5, dtype=dtype) for dtype in dtypes}
    save_file(tensors, tmp_path / "x.safetensors")
    _, read = read_headers(tmp_path / "x.safetensors")
    assert {tensor.name: tensor.nbytes for tensor in read} == {name: t.nbytes for name, t in tensors.items()}


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No file or folder"):
        read_headers(tmp_path / "nothing")
    with pytest.raises(WeightsError, match="holds no safetensors file"):
        read_headers(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin, which can run code"):
        read_headers(tmp_path)
    with pytest.raises(WeightsError, match="can run code"):
        read_headers(tmp_path / "pytorch_model.bin")
    whole = (NANO / "model.safetensors").read_bytes()
    for n in (0, 5, 100, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:n])
        with pytest.raises(WeightsError, match=r"cut\.safetensors.*not a readable"):
            read_headers(tmp_path / "cut.safetensors")
    broken = {
        "{": "not readable JSON",
        "[]": "no JSON object",
        "{}": "no weight_map",
        '{"weight_map": 3}': "no weight_map",
        '{"weight_map": {"a": "../one.safetensors"}}': "no safetensors file beside it",
    }
    for text, wrong in broken.items():
        (tmp_path / "x.safetensors.index.json").write_text(text)
        with pytest.raises(WeightsError, match=rf"x\.safetensors\.index\.json.*{wrong}"):
            read_headers(tmp_path / "x.safetensors.index.json")
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    (tmp_path / "x.safetensors.index.json").write_text(
        '{"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}'
    )
    with pytest.raises(WeightsError, match=r"lack b, which x\.safetensors\.index\.json lists"):
        read_headers(tmp_path)


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({"a": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(WeightsError, match="'a' stands in several files"):
        read_headers(tmp_path)
