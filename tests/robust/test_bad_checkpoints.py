"""Checkpoints that are damaged, lie, or would run code: one clear error that names the file, tensor or key.

Each is a copy of the oracle's checkpoint with one thing wrong. Memory is measured in a process of its own: a size in
a config must not become an allocation before it was compared with the file.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from canary_hub import Hub
from canary_hub.errors import ContractError, HubError, PluginError
from canary_hub.specs import Stage

sys.path.append(str(Path(__file__).parent))
from watched import watched

WEIGHT = "perception.proj.weight"
Damage = Callable[[Path], None]


def header(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Change the JSON header of the safetensors file."""

    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        content = path.read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        read = json.loads(content[8 : 8 + size])
        change(read)
        written = json.dumps(read).encode()
        path.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + size :])

    return damage


def raw(change: Callable[[bytes], bytes], name: str = "model.safetensors") -> Damage:
    """Change the bytes of a file."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    """Change the tensors."""

    def damage(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors")

    return damage


def index(shard: Any) -> Damage:
    """An index that names `shard` for one tensor."""

    def damage(folder: Path) -> None:
        weight_map = {WEIGHT: shard, "a": "model.safetensors"}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return damage


class Evil:
    """A pickle that leaves a file behind when it is read."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def pickled(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(Evil()))

    return damage


def nan(tensor: torch.Tensor) -> torch.Tensor:
    """With one number that is none."""
    tensor = tensor.clone()
    tensor.view(-1)[-1] = float("nan")
    return tensor


NOT_FINITE = {
    WEIGHT: "canary/linear",
    "llm.base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight": "canary/qwen3",
    "embed_tokens.weight": "canary/qwen3",
    "perception.preprocessor.featurizer.window": "canary/log-mel",
}
"""Tensor -> the component that then computes what is no number. It is said when it does: to look at all weights at load
would cost seconds at full size."""
FILES: dict[str, tuple[Damage, str]] = {
    "empty": (raw(lambda b: b""), "model.safetensors"),
    "cut in the header": (raw(lambda b: b[:500]), "model.safetensors"),
    "cut in the tensors": (raw(lambda b: b[:-1]), "model.safetensors"),
    "one byte more": (raw(lambda b: b + b"x"), "model.safetensors"),
    "another format": (raw(lambda b: b"PK\3\4" + b), "model.safetensors"),
    "header of 2 GiB": (raw(lambda b: struct.pack("<Q", 2**31) + b[8:]), "model.safetensors"),
    "header of 2^64": (raw(lambda b: b"\xff" * 8 + b[8:]), "model.safetensors"),
    "header no JSON": (raw(lambda b: b[:8] + b"x" + b[9:]), "model.safetensors"),
    "overlapping": (header(lambda h: h[WEIGHT].update(data_offsets=[0, 8192])), "model.safetensors"),
    "offsets past the end": (header(lambda h: h[WEIGHT].update(data_offsets=[0, 2**40])), "model.safetensors"),
    "offsets reversed": (header(lambda h: h[WEIGHT].update(data_offsets=[8192, 0])), "model.safetensors"),
    "shape of 2^40": (header(lambda h: h[WEIGHT].update(shape=[2**20, 2**20])), "model.safetensors"),
    "shape overflows": (header(lambda h: h[WEIGHT].update(shape=[2**62, 2**62])), "model.safetensors"),
    "negative shape": (header(lambda h: h[WEIGHT].update(shape=[-64, -64])), "model.safetensors"),
    "no such dtype": (header(lambda h: h[WEIGHT].update(dtype="Q7")), "model.safetensors"),
    "16-bit integers": (header(lambda h: h[WEIGHT].update(dtype="I16")), f"{WEIGHT} is I16"),
    "another shape": (tensors(lambda t: t.update({WEIGHT: t[WEIGHT][:32].clone()})), WEIGHT),
    "config no JSON": (raw(lambda b: b[:-9], "config.json"), "config.json"),
    "config empty": (raw(lambda b: b"", "config.json"), "config.json"),
    "config no UTF-8": (raw(lambda b: b"\xff\xfe" + b, "config.json"), "config.json"),
    "config a list": (raw(lambda b: b"[" + b + b"]", "config.json"), "config.json"),
    "config nested deeply": (raw(lambda b: b"[" * 200_000, "config.json"), "config.json"),
    "config of 100 MB": (raw(lambda b: b + b" " * 100_000_000, "config.json"), "config.json"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "index outside": (index("../../secret.safetensors"), "../../secret.safetensors"),
    "index absolute": (index("/etc/x.safetensors"), "/etc/x.safetensors"),
    "index to a pickle": (index("pytorch_model.bin"), "pytorch_model.bin"),
    "index a number": (index(7), "index.json"),
    "index a list": (index([]), "index.json"),
    "index empty": (index(""), "index.json"),
    "index lacks": (index("gone.safetensors"), "gone.safetensors"),
    **{name: (pickled(name), name) for name in ("pytorch_model.bin", "model.pt", "model.pth", "x.ckpt", "canary.nemo")},
}
ENCODER = "perception.encoder."
SIZES = [
    *(ENCODER + key for key in ("d_model", "n_heads", "n_layers", "feat_in", "conv_kernel_size", "subsampling_factor")),
    *(ENCODER + key for key in ("subsampling_conv_channels", "ff_expansion_factor")),
    "perception.output_dim",
    *("perception.preprocessor." + key for key in ("sample_rate", "features", "n_fft", "window_size", "window_stride")),
    "lora.r",
    "lora.lora_alpha",
]
LLM_SIZES = [
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "num_hidden_layers",
    "vocab_size",
]
ABSURD: list[Any] = [None, "64", "many", [64], {}, True, 0, -1, 0.5, 1e300, float("nan"), 10**9, 2**31, 10**400]
TAKEN = [("lora.lora_alpha", 0.5), ("lora.lora_alpha", 10**9), ("perception.preprocessor.window_stride", 0.5)]
"""Odd, and as good as any other value: no size follows from them."""
OPTIONAL = {ENCODER + "pos_emb_max_len": [0, "x", 2**40], "perception.preprocessor.preemph": ["x", [], -1]}
OTHERS = {
    "audio_locator_tag": [None, 7, "", []],
    "lora.target_modules": [None, 7, "q_proj", [7], {}, ["q_proj"], ["no_such"]],
    "perception": [None, 7, [], "x"],
    "perception.encoder": [None, 7, []],
    "perception.preprocessor": [None, []],
}
LLM_OTHERS = {
    "hidden_act": ["nope", 7, None],
    "rms_norm_eps": ["x"],
    "layer_types": [["x"], 7],
    "head_dim": ["x", -1, 10**9],
    "num_hidden_layers": ["3"],
}


def put(path: Path, key: str, value: Any) -> None:
    """Set, or with `...` take away, the value at a dotted key of a JSON file."""
    config = json.loads(path.read_text())
    *outer, last = key.split(".")
    inner = config
    for name in outer:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    path.write_text(json.dumps(config))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """One that keeps nothing loaded: what a folder held a moment ago must not be found in the pool."""
    return Hub(tmp_path_factory.mktemp("no-plugins"), allow=(), max_bytes=0)


@pytest.fixture
def folders(oracle: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the checkpoint and of the base LLM."""
    return (
        Path(shutil.copytree(oracle / "checkpoint", tmp_path / "checkpoint")),
        Path(shutil.copytree(oracle / "llm", tmp_path / "llm")),
    )


def refused(hub: Hub, checkpoint: Path, llm: Path, components: dict[Stage, str] | None = None) -> HubError | None:
    """The error of `Hub.load`, checked for its form."""
    weights = {"canary": checkpoint, "canary-llm": llm}
    try:
        hub.load("canary-qwen-2.5b", weights=weights, components=components, dtype="float32", device="cpu").close()
    except HubError as refusal:
        error = refusal
    else:
        return None
    if not isinstance(error, ContractError):  # which lists what does not fit
        assert error.message.endswith("."), error.message
        assert error.hint
    assert len(str(error)) < 2000
    return error


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_by_name(
    hub: Hub, folders: tuple[Path, Path], name: str, tally: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, said = FILES[name]
    monkeypatch.chdir(folders[0])
    damage(folders[0])
    error = refused(hub, *folders)
    assert error is not None
    assert said in str(error)
    assert not (folders[0] / "ran").exists()  # what the pickles would leave behind
    tally("checkpoints refused", 1)


@pytest.mark.parametrize("name", NOT_FINITE)
def test_weights_that_are_no_numbers_are_told_by_their_component(
    hub: Hub, folders: tuple[Path, Path], oracle: Path, name: str, tally: Callable[..., None]
) -> None:
    tensors(lambda found: found.update({name: nan(found[name])}))(folders[0])
    weights = dict(zip(("canary", "canary-llm"), folders, strict=True))
    with (
        hub.load("canary-qwen-2.5b", weights=weights, dtype="float32", device="cpu") as stack,
        pytest.raises(PluginError, match=f"^{NOT_FINITE[name]} returned .* not numbers"),
    ):
        stack.transcribe(oracle / "audio" / "speech.wav")
    tally("checkpoints refused", 1)


def refused_or_the_same(hub: Hub, folders: tuple[Path, Path], key: str, value: Any) -> str | None:
    """What is wrong with what `Hub.load` does of a config with that value; None if nothing is."""
    try:
        error = refused(hub, *folders)
    except Exception as raised:
        return f"{key} = {value!r:.60} raised {raised!r:.200}"
    if error is None:
        return None if (key, value) in TAKEN else f"{key} = {value!r:.60} was taken"
    last = key.rsplit(".", 1)[-1]
    told = (last, repr(value), "wrongly shaped", "missing", "do not fit")
    named = any(words in str(error) for words in told)
    return None if named else f"{key} = {value!r:.60}: {error}"


@pytest.mark.timeout(600)
def test_every_size_is_checked_before_anything_is_built(
    hub: Hub, folders: tuple[Path, Path], whole: bool, tally: Callable[..., None]
) -> None:
    """Missing keys, other types, absurd sizes."""
    found, tried = [], 0
    keys = [
        *((folders[0], key, [..., *ABSURD]) for key in SIZES),
        *((folders[1], key, [..., *ABSURD]) for key in LLM_SIZES),
    ]
    keys += [(folders[0], key, values) for key, values in {**OPTIONAL, **OTHERS}.items()]
    keys += [(folders[1], key, values) for key, values in LLM_OTHERS.items()]
    for number, (folder, key, values) in enumerate(keys):
        path = folder / "config.json"
        original = path.read_bytes()
        for value in values if whole or len(values) < 8 else [values[0], *values[1 + number % 3 :: 3]]:
            put(path, key, value)
            if (problem := refused_or_the_same(hub, folders, key, value)) is not None:
                found.append(problem)
            path.write_bytes(original)
            tried += 1
    assert not found, "\n".join(found)
    assert refused(hub, *folders) is None
    tally("configs refused", tried)


@pytest.mark.timeout(600)
def test_the_command_line_says_so_and_takes_no_memory(
    folders: tuple[Path, Path], oracle: Path, tmp_path: Path, whole: bool, tally: Callable[..., None]
) -> None:
    checkpoint, llm = folders
    weights = ["--weights", f"canary={checkpoint}", "--weights", f"canary-llm={llm}"]
    # `check` compares the parts, not the files.
    check = ["check", "canary-qwen-2.5b", *weights]
    transcribe = ["transcribe", "--stack", "canary-qwen-2.5b", *weights, str(oracle / "audio" / "speech.wav")]
    cases = [(ENCODER + "n_layers", transcribe)]
    if whole:
        others = [ENCODER + "d_model", "perception.preprocessor.n_fft"]
        cases += [(key, command) for key in others for command in (check, transcribe)] + [(cases[0][0], check)]
    original = (checkpoint / "config.json").read_bytes()
    for number, (key, arguments) in enumerate(cases):
        put(checkpoint / "config.json", key, 900 if key.endswith("n_layers") else 10**9)
        work = tmp_path / str(number)
        work.mkdir()
        done, notes = watched(work, "cli", *arguments, timeout=60)
        assert "Traceback" not in done.stderr
        assert int(notes.read_text().splitlines()[-1]) < 1.2e9
        if arguments is transcribe:
            assert done.returncode == 1
            assert "Error: " in done.stderr
        (checkpoint / "config.json").write_bytes(original)
    tally("checkpoints refused", len(cases))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "header of 2 GiB", "config a list", "index outside"])
def test_every_backend_refuses_alike(hub: Hub, folders: tuple[Path, Path], name: str) -> None:
    FILES[name][0](folders[0])
    said = {
        id: str(refused(hub, *folders, {Stage.LLM: id}))
        for id in ("canary/qwen3", "canary/qwen3-peft", "canary/qwen3-int8")
    }
    assert len(set(said.values())) == 1
    assert FILES[name][1] in said["canary/qwen3"]
