"""OpenVINO's graphs against the built-in modules over the oracle checkpoint, and what is kept of them on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from canary_hub_openvino import exported, graph
from canary_hub_openvino import fastconformer as ov_fastconformer
from canary_hub_openvino import qwen3 as ov_qwen3
from conftest import ORACLE

from canary_hub import Hub
from canary_hub.errors import HubError, WeightsError
from canary_hub.models.canary_qwen import encoder as fastconformer
from canary_hub.models.canary_qwen import llm as qwen3
from canary_hub.models.canary_qwen.options import Qwen3Call
from canary_hub.pipeline import Stack
from canary_hub.settings import cache_folder
from canary_hub.specs import Options, Stage, WeightsRef
from canary_hub.stages import Build, Step
from canary_hub.testing import EncoderConformance, LLMConformance
from canary_hub.testing.under_test import UnderTest, held_bytes
from canary_hub.weights.checkpoint import Checkpoint

FOLDERS = {"canary": ORACLE / "checkpoint", "canary-llm": ORACLE / "llm"}
SPEECH = ORACLE / "audio" / "slice1p3.wav"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this file's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY_HUB_CACHE", str(folder))
        yield folder


def given(dtype: str = "float32", device: str = "cpu", **folders: Path) -> Build:
    weights = {role: Checkpoint(WeightsRef(path=path)) for role, path in {**FOLDERS, **folders}.items()}
    return Build(Options(), weights, dtype, device)


class OverTheOracle:
    plugin = "canary_hub_openvino.plugin"
    files: ClassVar[str]

    def weights(self, folder: Path) -> Mapping[str, Path]:
        return FOLDERS

    def test_states_its_bytes(self, subject: UnderTest) -> None:
        """OpenVINO's weights are in no tensor of torch or numpy: they count as their files on disk."""
        component = subject.build()
        files = sum(path.stat().st_size for path in cache_folder("openvino").glob(f"{self.files}*/*.bin"))
        assert component.nbytes == held_bytes(component) + files


class TestFastConformer(OverTheOracle, EncoderConformance):
    component = "openvino/fastconformer"
    files = "fastconformer-float32-"


class TestQwen3(OverTheOracle, LLMConformance):
    component = "openvino/qwen3"
    files = "qwen3-float32-"
    atol = 1e-3  # of logits up to 30


class TestQwen3Int8(OverTheOracle, LLMConformance):
    component = "openvino/qwen3-int8"
    files = "qwen3-int8-float32-"
    atol = 1e-3


# Parity


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.06)])
def test_the_encoder_gives_the_same(dtype: str, tolerance: float) -> None:
    build = given(dtype)
    features = torch.randn(4, 128, 333, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([333, 320, 8, 0])
    expected, frames = fastconformer.build(build)(features, lengths)
    hidden, heard = ov_fastconformer.build(build)(features, lengths)
    assert heard.tolist() == frames.tolist() == [42, 40, 1, 0]
    assert hidden.dtype == torch.float32
    assert hidden.shape == expected.shape
    for row, other, n in zip(hidden, expected, heard.tolist(), strict=True):
        assert torch.allclose(row[:n], other[:n].float(), atol=tolerance)


@pytest.fixture(scope="module")
def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """(3, 600, 64) left-padded by 0, 7 and 400, as long as 40 s of audio, with noise in the padding."""
    embeds = 0.05 * torch.randn(3, 600, 64, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 600, dtype=torch.bool)
    mask[1, :7] = mask[2, :400] = False
    return embeds, mask


def written(llm: Any, prompts: tuple[torch.Tensor, torch.Tensor], **options: Any) -> list[Step]:
    embeds, mask = prompts
    dtype = llm.embed(torch.tensor([0])).dtype
    return list(llm.generate(embeds.to(dtype), mask, Qwen3Call(**{"max_new_tokens": 24, **options})))


def ids(steps: list[Step]) -> list[tuple[int | None, ...]]:
    return [step.ids for step in steps]


@pytest.mark.parametrize("adapter", [True, False])
def test_the_llm_writes_the_same(prompts: Any, adapter: bool) -> None:
    expected = written(qwen3.build(given()), prompts, adapter=adapter)
    steps = written(ov_qwen3.build(given()), prompts, adapter=adapter)
    assert ids(steps) == ids(expected)
    for step, other in zip(steps, expected, strict=True):
        assert step.logits.dtype == torch.float32
        assert torch.allclose(step.logits, other.logits, atol=1e-3)
        assert step.logprobs == pytest.approx(other.logprobs, abs=1e-3, nan_ok=True)
        assert step.attention is None


def test_one_prompt_without_padding(prompts: Any) -> None:
    one = (prompts[0][:1, :33], prompts[1][:1, :33])
    assert ids(written(ov_qwen3.build(given()), one)) == ids(written(qwen3.build(given()), one))


def test_drawn_tokens_and_stops_are_the_same(prompts: Any) -> None:
    options = Qwen3Call(max_new_tokens=12, temperature=1.5, seed=7)
    heard = []
    for llm in (qwen3.build(given()), ov_qwen3.build(given())):
        heard.append(ids(list(llm.generate(*prompts, options, stop=lambda row, so_far: len(so_far) > 3 * row + 1))))
    assert heard[0] == heard[1]
    assert [sum(id is not None for id in row) for row in zip(*heard[1], strict=True)] == [2, 5, 8]


def test_two_generations_at_once_keep_their_own_cache(prompts: Any) -> None:
    llm = ov_qwen3.build(given())
    layers = llm.model.model
    alone = written(llm, prompts)
    half = islice(llm.generate(*prompts, Qwen3Call(max_new_tokens=24)), 12)
    steps = [next(half) for _ in range(6)]
    layers(None, None, torch.arange(9)[None], Options(), prompts[0][:1, :9])  # another request in between
    assert ids(steps + list(half)) == ids(alone)[:12]


@pytest.mark.parametrize(
    ("int8", "dtype", "share"), [(False, "bfloat16", 0.08), (True, "float32", 0.12), (True, "bfloat16", 0.12)]
)
def test_rounded_weights_are_close(prompts: Any, int8: bool, dtype: str, share: float) -> None:
    """canary/qwen3 itself is 0.05 away from float32 in bfloat16, on this checkpoint of noise."""
    expected = written(qwen3.build(given()), prompts, max_new_tokens=1)[0]
    made = (ov_qwen3.build_int8 if int8 else ov_qwen3.build)(given(dtype))
    (step,) = written(made, prompts, max_new_tokens=1)
    assert (step.logits - expected.logits).norm() < share * expected.logits.norm()
    assert step.ids == expected.ids


def test_embeddings_and_names_are_those_of_the_built_in() -> None:
    ours, built_in = ov_qwen3.build(given()), qwen3.build(given())
    table = built_in.embed(torch.tensor([5, 6]))
    assert torch.equal(ours.embed(torch.tensor([5, 6])), table)
    assert ours.nearest(table, 3)[0].tolist() == built_in.nearest(table, 3)[0].tolist()
    assert ours.pieces([5, 6]) == built_in.pieces([5, 6])


# In a stack


@pytest.fixture(scope="module")
def stack() -> Stack:
    hub = Hub(Path(__file__).parents[2], allow=["openvino"])
    parts = {Stage.ENCODER: "openvino/fastconformer", Stage.LLM: "openvino/qwen3"}
    return hub.load("canary-qwen-2.5b", components=parts, weights=FOLDERS, dtype="float32", device="cpu")


def test_a_stack_transcribes_and_chats_as_the_built_in_one(stack: Stack) -> None:
    hub = Hub(Path(__file__).parents[2], allow=["openvino"])
    with hub.load("canary-qwen-2.5b", weights=FOLDERS, dtype="float32", device="cpu") as built_in:
        expected = built_in.transcribe(SPEECH, max_new_tokens=12)
        answers = [list(one.chat("Hello?", max_new_tokens=6)) for one in (built_in, stack)]
    result = stack.transcribe(SPEECH, max_new_tokens=12)
    assert result.text == expected.text
    assert result.text
    assert answers[0] == answers[1]


def test_details_lack_the_attention_alone(stack: Stack) -> None:
    done = list(stack.stream(SPEECH, details=True, max_new_tokens=4))[-1]
    (segment,) = done.result.trace.segments
    assert segment.attention is None
    assert [len(token.alternatives) for token in segment.tokens] == [5] * len(segment.tokens)
    assert all(frame.nearest for frame in segment.frames)
    counted = done.result.trace.parameters
    assert counted["encoder"] == fastconformer.build(given()).parameters
    lora = 3 * 8 * (64 + 64 + 64 + 32)  # layers, rank, A and B of q and v
    assert counted["llm"] == qwen3.build(given()).parameters + lora


# On disk


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, which lies at this path once something is in it."""
    monkeypatch.setenv("CANARY_HUB_CACHE", str(tmp_path))
    return tmp_path / "openvino"


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the graphs that were written, in order."""
    names: list[str] = []
    save = graph.save
    monkeypatch.setattr(graph, "save", lambda model, path: (names.append(path.stem), save(model, path))[1])
    return names


def test_a_graph_is_exported_once(fresh: Path, exports: list[str], prompts: Any) -> None:
    first = written(ov_qwen3.build(given()), prompts, max_new_tokens=2)
    assert exports == ["layers", "head"]
    assert torch.equal(written(ov_qwen3.build(given()), prompts, max_new_tokens=2)[1].logits, first[1].logits)
    assert exports == ["layers", "head"]
    assert not list(fresh.glob("*partial*"))


def test_other_weights_precisions_and_versions_are_exported_anew(
    fresh: Path, exports: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ov_qwen3.build(given())
    ov_qwen3.build(given("bfloat16"))
    assert len(exports) == 4
    other = tmp_path / "other"
    other.mkdir()
    for path in FOLDERS["canary"].iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    ov_qwen3.build(given(canary=other))
    assert len(exports) == 4  # the same content at another place
    content = bytearray((other / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (other / "model.safetensors").write_bytes(content)
    ov_qwen3.build(given(canary=other))
    assert len(exports) == 6
    monkeypatch.setattr(graph, "VERSION", graph.VERSION + 1)
    ov_qwen3.build(given())
    assert len(exports) == 8


@pytest.mark.parametrize("damage", ["cut off", "no graph", "not a graph", "no sizes"])
def test_what_is_damaged_is_exported_anew(fresh: Path, exports: list[str], prompts: Any, damage: str) -> None:
    expected = written(ov_qwen3.build(given()), prompts, max_new_tokens=1)
    (place,) = fresh.glob("qwen3-*")
    if damage == "cut off":
        (place / "layers.bin").write_bytes((place / "layers.bin").read_bytes()[:1000])
    elif damage == "not a graph":
        (place / "layers.xml").write_bytes(b"?" * (place / "layers.xml").stat().st_size)
    else:
        (place / {"no graph": "layers.xml", "no sizes": "sizes.json"}[damage]).unlink()
    steps = written(ov_qwen3.build(given()), prompts, max_new_tokens=1)
    assert exports == ["layers", "head", "layers", "head"]
    assert torch.equal(steps[0].logits, expected[0].logits)


def test_bfloat16_stays_bfloat16_on_disk(fresh: Path) -> None:
    ov_qwen3.build(given("bfloat16"))
    (place,) = fresh.glob("qwen3-bfloat16-*")
    assert '<attribute name="decompression"' in (place / "layers.xml").read_text()
    assert exported.nbytes(place.glob("*.xml")) < 1.05 * 2 * 149280


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CANARY_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(HubError, match="cannot be written") as caught:
        ov_qwen3.build(given())
    assert "CANARY_HUB_CACHE" in caught.value.hint


# What is refused


@pytest.mark.parametrize("build", [ov_fastconformer.build, ov_qwen3.build, ov_qwen3.build_int8])
def test_other_devices_and_dtypes_are_refused(build: Any) -> None:
    with pytest.raises(HubError, match="runs on the CPU, not on 'cuda'"):
        build(given(device="cuda"))
    with pytest.raises(HubError, match="float32 or bfloat16, not in float16"):
        build(given("float16"))


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"attention_bias": True}, "attention_bias = True"), ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
     ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_type 'linear'")],
)  # fmt: skip
def test_a_variant_that_the_graph_lacks_is_refused(changed: dict[str, Any], why: str, tmp_path: Path) -> None:
    build = given()
    settings = {**build.weights["canary-llm"].config, **changed}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    build = replace(build, weights={**build.weights, "canary-llm": Checkpoint(WeightsRef(path=tmp_path))})
    with pytest.raises(WeightsError, match=why):
        graph.qwen3(qwen3.empty_model(build).config, None, None)
