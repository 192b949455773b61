"""vllm/qwen3 without vLLM: what it is given, and the backend on a stand-in that runs the exported model."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from canary_hub_vllm import export
from canary_hub_vllm.options import VllmBuild, VllmCall
from canary_hub_vllm.plan import TOP, logits_of, prompts, require_room, sampling, settings
from click.testing import CliRunner
from conftest import ORACLE, ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

from canary_hub import Hub
from canary_hub.cli import main
from canary_hub.errors import HubError, OptionError
from canary_hub.pipeline import Stack
from canary_hub.run.events import Done
from canary_hub.run.injection import Injected, inject
from canary_hub.settings import cache_folder
from canary_hub.specs import Stage, WeightsRef
from canary_hub.stages import Build, Step
from canary_hub.testing import LLMConformance
from canary_hub.testing.under_test import UnderTest, held_bytes
from canary_hub.weights.checkpoint import Checkpoint
from canary_hub.weights.tensors import TensorFiles

WEIGHTS = {"canary": ORACLE / "checkpoint", "canary-llm": ORACLE / "llm"}
VLLM = {Stage.LLM: "vllm/qwen3"}
DIGITS = sorted((ROOT / "tests" / "digits").glob("*.flac"))


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The stand-in, as the module `vllm`; and a cache folder of its own."""
    real = [name for name in sys.modules if name.partition(".")[0] == "vllm"]
    for name in real:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("CANARY_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(Path(__file__).parent / "stand_in")
    import vllm

    yield vllm
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def hub() -> Hub:
    """With a pool of its own: the stand-in is imported anew for every test."""
    return Hub(ROOT / "plugins", allow=("vllm",))


def loaded(hub: Hub, dtype: str = "float32", **more: Any) -> Stack:
    return hub.load("canary-qwen-2.5b", weights=WEIGHTS, dtype=dtype, device="cpu", **more)


def build(dtype: str = "float32", checkpoint: Path = WEIGHTS["canary"], llm: Path = WEIGHTS["canary-llm"]) -> Build:
    refs = {"canary": WeightsRef(path=checkpoint), "canary-llm": WeightsRef(path=llm)}
    return Build(VllmBuild(), {role: Checkpoint(ref) for role, ref in refs.items()}, dtype)


def heard(stack: Stack, rows: int) -> Injected:
    """Prompts around noise as audio embeddings, each shorter than the one before."""
    llm = stack.component(Stage.LLM)
    ids = llm.tokenize(stack.component(Stage.PROMPT_TEMPLATE).render(stack.options[Stage.PROMPT_TEMPLATE]))
    noise = torch.randn(rows, 40, llm.embed(torch.tensor([1])).shape[-1], generator=torch.Generator().manual_seed(0))
    return inject([ids] * rows, llm.embed, [row[: 40 - 7 * i] for i, row in enumerate(noise)], llm.placeholder_id)


def steps(stack: Stack, rows: int = 1, stop: Any = None, **options: Any) -> list[Step]:
    given = heard(stack, rows)
    call = stack.call_options(**{f"llm.{key}": value for key, value in {"max_new_tokens": 12, **options}.items()})
    llm = stack.component(Stage.LLM)
    return list(llm.generate(given.inputs_embeds, given.attention_mask, call[Stage.LLM], stop))


def written(steps: list[Step]) -> list[list[int]]:
    return [[id for id in row if id is not None] for row in zip(*(step.ids for step in steps), strict=True)]


# The export


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_export_is_the_merged_model(hub: Hub, dtype: str) -> None:
    folder = export.exported(build(dtype))
    assert folder.parent == cache_folder("vllm")
    exported = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    stack = loaded(hub, dtype)
    given, own = heard(stack, 2), stack.component(Stage.LLM).model
    inputs = {"inputs_embeds": given.inputs_embeds, "attention_mask": given.attention_mask.long()}
    positions = (given.attention_mask.long().cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        theirs = exported(**inputs, position_ids=positions).logits[given.attention_mask].float()
        first = steps(stack, 2)[0].logits.float()
    for name, tensor in exported.state_dict().items():
        assert torch.equal(tensor, own.state_dict()[name]), name
    last = given.attention_mask.sum(1).cumsum(0) - 1
    torch.testing.assert_close(theirs[last], first, atol=1e-5 if dtype == "float32" else 0.05, rtol=0)
    assert exported.config.tie_word_embeddings
    assert exported.lm_head.weight.data_ptr() == exported.model.embed_tokens.weight.data_ptr()
    # LoRA is in it: with the adapter off the numbers are others.
    assert (steps(stack, 2, adapter=False)[0].logits.float() - theirs[last]).abs().max() > 0.1


def test_the_export_has_the_tokenizer(hub: Hub) -> None:
    read = AutoTokenizer.from_pretrained(export.exported(build()))
    ours = loaded(hub).component(Stage.LLM).tokenizer
    text = "Transcribe the following: 1-2-3, così!"
    assert read.encode(text, add_special_tokens=False) == ours._encode_plain(text)
    assert read.eos_token_id == ours.eos_ids[0]


def test_the_export_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export.exported(build())
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(export.qwen3, "build", lambda build: pytest.fail("merged again"))
    assert export.exported(build()) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_other_weights_dtype_or_config_get_another_folder(tmp_path: Path) -> None:
    checkpoint, llm = tmp_path / "checkpoint", tmp_path / "llm"
    shutil.copytree(WEIGHTS["canary"], checkpoint)
    shutil.copytree(WEIGHTS["canary-llm"], llm)
    folders = [export.exported(build()), export.exported(build("bfloat16"))]
    # The same numbers in another place are the same weights, as far as they come from files.
    assert export.exported(build(checkpoint=checkpoint, llm=llm)) == folders[0]
    config = json.loads((checkpoint / "config.json").read_text())
    config["lora"]["lora_alpha"] *= 2
    (checkpoint / "config.json").write_text(json.dumps(config))
    folders.append(export.exported(build(checkpoint=checkpoint)))
    raw = bytearray((checkpoint / "model.safetensors").read_bytes())
    raw[-2] ^= 1
    (checkpoint / "model.safetensors").write_bytes(raw)
    folders.append(export.exported(build(checkpoint=checkpoint)))
    assert len(set(folders)) == 4
    q = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(*(TensorFiles(folder).tensor(q) for folder in (folders[0], folders[2])))


def test_a_file_of_the_hugging_face_cache_is_known_by_its_name(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    name = "0123456789abcdef" * 4
    (blobs / name).write_bytes(b"x")
    (snapshot / "model.safetensors").symlink_to(blobs / name)
    assert export._content(snapshot / "model.safetensors") == name
    assert export._content(WEIGHTS["canary-llm"] / "config.json") != name


def test_a_failed_export_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "save_file", full)
    with pytest.raises(HubError, match="No space left") as caught:
        export.exported(build())
    assert "CANARY_HUB_CACHE" in caught.value.hint
    assert not list(cache_folder("vllm").iterdir())


# The plan


def test_what_vllm_is_started_with() -> None:
    given = settings(Path("/models/merged"), "bfloat16", VllmBuild(max_model_len=2048, gpu_memory_utilization=0.4))
    assert given["model"] == "/models/merged"
    assert given["dtype"] == "bfloat16"
    assert given["max_model_len"] == 2048
    assert given["gpu_memory_utilization"] == 0.4
    assert given["enable_prompt_embeds"] is True
    assert "tensor_parallel_size" not in given


def test_options_become_sampling_parameters() -> None:
    greedy = sampling(VllmCall(max_new_tokens=7), (151645,))
    assert greedy["temperature"] == 0.0
    assert greedy["seed"] is None
    assert greedy["max_tokens"] == 7
    assert greedy["stop_token_ids"] == [151645]
    assert greedy["ignore_eos"] is True
    drawn = sampling(VllmCall(temperature=0.7, seed=3), (1, 2))
    assert (drawn["temperature"], drawn["seed"], drawn["stop_token_ids"]) == (0.7, 3, [1, 2])


def test_prompts_lose_their_padding() -> None:
    embeds = torch.arange(24.0).view(2, 4, 3).bfloat16()
    mask = torch.tensor([[True] * 4, [False, False, True, True]])
    whole, short = prompts(embeds, mask)
    assert torch.equal(whole, embeds[0])
    assert torch.equal(short, embeds[1, 2:])
    assert short.dtype == torch.bfloat16


def test_an_answer_that_could_be_cut_off_is_refused() -> None:
    require_room(100, 28, 128)
    with pytest.raises(OptionError, match="100 positions and 29 new tokens are more than the 128") as caught:
        require_room(100, 29, 128)
    assert "max_model_len to 129" in caught.value.hint


def test_the_most_probable_keep_their_probabilities() -> None:
    p = torch.softmax(torch.randn(50, generator=torch.Generator().manual_seed(0)) * 3, 0)
    best = {int(i): math.log(float(p[i])) for i in p.topk(5).indices}
    logits = logits_of([best, None], 50)
    assert logits.isfinite().all()
    again = logits.softmax(-1)[0]
    for id in best:
        assert float(again[id]) == pytest.approx(float(p[id]), rel=1e-4)
    others = [i for i in range(50) if i not in best]
    assert again[others].tolist() == pytest.approx([(1 - sum(float(p[i]) for i in best)) / 45] * 45, rel=1e-3)
    # An even rest is the most uncertain one: the entropy is never understated.
    assert torch.special.entr(again).sum() >= torch.special.entr(p).sum()
    assert logits_of([{0: 0.0, 3: -30.0}], 5).softmax(-1)[0, 0] == pytest.approx(1.0)
    assert logits_of([{0: math.log(0.25), 1: math.log(0.75)}], 2).softmax(-1)[0].tolist() == pytest.approx([0.25, 0.75])


# The backend, on the stand-in


@pytest.mark.parametrize("rows", [1, 5])
def test_ids_and_probabilities_are_those_of_qwen3(hub: Hub, rows: int) -> None:
    plain, ours = steps(loaded(hub), rows), steps(loaded(hub, components=VLLM), rows)
    assert written(ours) == written(plain)
    for a, b in zip(ours, plain, strict=True):
        assert a.ids == b.ids
        assert a.logits.shape == b.logits.shape
        for row, id in enumerate(a.ids):
            if id is None:
                assert math.isnan(a.logprobs[row])
                continue
            assert a.logprobs[row] == pytest.approx(b.logprobs[row], abs=1e-4)
            top = b.logits[row].softmax(-1).topk(TOP)
            torch.testing.assert_close(a.logits[row].softmax(-1)[top.indices], top.values, atol=1e-5, rtol=0)


def test_rows_end_at_the_end_of_a_turn(hub: Hub) -> None:
    plain, ours = loaded(hub), loaded(hub, components=VLLM)
    llm, chosen = ours.component(Stage.LLM), written(steps(plain, 4))
    # A token that some row writes early is taken for the end of a turn.
    end = chosen[1][2]
    for stack in (plain, ours):
        stack.component(Stage.LLM).tokenizer.eos_ids = (end,)
    ends = written(steps(ours, 4))
    assert ends == written(steps(plain, 4))
    assert ends[1][-1] == end
    assert len(ends[1]) < 12
    assert llm.eos_ids == (end,)


def test_a_stopped_row_is_aborted_and_the_others_go_on(hub: Hub, vllm: Any) -> None:
    stack = loaded(hub, components=VLLM)
    whole = written(steps(stack, 3))
    assert not vllm.LLMEngine.running.aborted
    cut = written(steps(stack, 3, stop=lambda row, ids: row == 1 and len(ids) == 4))
    assert cut == [whole[0], whole[1][:4], whole[2]]
    assert len(vllm.LLMEngine.running.aborted) == 1
    assert not vllm.LLMEngine.running.requests


def test_closing_the_iterator_ends_all_requests(hub: Hub, vllm: Any) -> None:
    stack = loaded(hub, components=VLLM)
    given, llm = heard(stack, 3), stack.component(Stage.LLM)
    stream = llm.generate(given.inputs_embeds, given.attention_mask, stack.options[Stage.LLM])
    first = next(stream)
    assert None not in first.ids
    stream.close()
    assert not vllm.LLMEngine.running.requests
    assert written(steps(stack, 3))[0][0] == first.ids[0]


def test_drawing_follows_the_seed(hub: Hub) -> None:
    stack = loaded(hub, components=VLLM)
    drawn = {seed: written(steps(stack, 2, temperature=1.5, seed=seed)) for seed in (1, 2)}
    assert written(steps(stack, 2, temperature=1.5, seed=1)) == drawn[1] != drawn[2]
    assert drawn[1] != written(steps(stack, 2))


def test_too_long_an_answer_is_refused_before_it_starts(hub: Hub, vllm: Any) -> None:
    stack = loaded(hub, components=VLLM, options={"llm.max_model_len": 64})
    assert vllm.LLMEngine.running.args.max_model_len == 64
    with pytest.raises(OptionError, match="more than the 64"):
        steps(stack, 1, max_new_tokens=64)
    assert not vllm.LLMEngine.running.requests


def test_what_vllm_raises_is_told_without_a_traceback(hub: Hub, vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("Failed to infer device type")

    stack = loaded(hub, components=VLLM)
    monkeypatch.setattr(vllm.LLMEngine, "step", broken)
    with pytest.raises(HubError, match="Failed to infer device type") as caught:
        steps(stack)
    assert "gpu_memory_utilization" in caught.value.hint
    assert not vllm.LLMEngine.running.requests
    monkeypatch.setattr(vllm.LLMEngine, "from_engine_args", broken)
    with pytest.raises(HubError, match="Failed to infer device type"):
        loaded(hub, components=VLLM, options={"llm.max_model_len": 65})


def test_a_request_that_vllm_gives_up_is_an_error(hub: Hub, vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = vllm.LLMEngine._advance

    def fails(self: Any, *given: Any) -> Any:
        output = advance(self, *given)
        output.finished, output.outputs[0].finish_reason = True, "error"
        return output

    monkeypatch.setattr(vllm.LLMEngine, "_advance", fails)
    with pytest.raises(HubError, match="gave up on a segment: error"):
        steps(loaded(hub, components=VLLM), 2)


def test_nano_hears_the_same_digits_with_a_trace(hub: Hub) -> None:
    plain = hub.load("nano", device="cpu")
    ours = hub.load("nano", components=VLLM, device="cpu")
    for path in DIGITS[:3]:
        expected, result = (
            next(event.result for event in stack.stream(path, details=True) if isinstance(event, Done))
            for stack in (plain, ours)
        )
        assert result.text == expected.text
        segment, known = result.trace.segments[0], expected.trace.segments[0]
        assert [token.id for token in segment.tokens] == [token.id for token in known.tokens]
        for token, other in zip(segment.tokens, known.tokens, strict=True):
            assert token.probability == pytest.approx(other.probability, abs=1e-4)
            assert token.entropy >= other.entropy - 1e-3
            assert [a.id for a in token.alternatives[:2]] == [a.id for a in other.alternatives[:2]]
            assert token.frame is None
        assert segment.frames == known.frames
        assert segment.attention is None
        assert segment.words == ()


def test_it_answers_no_text_prompts(hub: Hub) -> None:
    assert not loaded(hub, components=VLLM).chats


def test_without_vllm_the_check_says_how_to_install_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "vllm" else find(name, *more))
    shown = CliRunner().invoke(main, ["check", "nano", "--llm", "vllm/qwen3", "--plugins-dir", str(ROOT / "plugins")])
    assert shown.exit_code == 1, shown.output
    assert 'pip install "vllm' in " ".join(shown.output.split())


class TestConformance(LLMConformance):
    component = "vllm/qwen3"
    plugin = "canary_hub_vllm.plugin"

    def weights(self, folder: Path) -> Mapping[str, Path]:
        return WEIGHTS

    def test_states_its_bytes(self, subject: UnderTest) -> None:
        """Beside its own table it counts what vLLM loads into another process."""
        component = subject.build()
        files = TensorFiles(Path(component._vllm.args.model))
        assert component.nbytes == held_bytes(component) + sum(4 * math.prod(shape) for shape in files.values())
