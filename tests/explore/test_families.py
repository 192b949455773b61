"""Structure and weights of composite models: against the tiny checkpoints that their stacks load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from composite import VOCAB, tokenizer
from conftest import ROOT
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    GraniteSpeechConfig,
    GraniteSpeechForConditionalGeneration,
    Qwen3ASRConfig,
    Qwen3ASRForConditionalGeneration,
)

from canary_hub import Hub, HubError
from canary_hub.cli import main
from canary_hub.explore import lora, structure
from canary_hub.explore import tensors as weights
from canary_hub.explore.report import sections
from canary_hub.specs import StackSpec, Stage

QWEN = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|audio_pad|>",
    "<asr_text>",
]
GRANITE = ["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|audio|>"]


@pytest.fixture(scope="module")
def hub() -> Hub:
    return Hub(ROOT / "plugins", allow=("qwen3_asr", "granite_speech"))


@pytest.fixture(scope="module")
def qwen3_asr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, the head tied to the embeddings."""
    folder = tmp_path_factory.mktemp("qwen3-asr")
    config = Qwen3ASRConfig(
        audio_config={"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64,
                      "downsample_hidden_size": 8, "output_dim": 48, "num_mel_bins": 128},
        text_config={"model_type": "qwen3", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
                     "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": VOCAB,
                     "tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        audio_token_id=256 + QWEN.index("<|audio_pad|>"),
    )  # fmt: skip
    Qwen3ASRForConditionalGeneration(config).save_pretrained(folder)
    tokenizer(folder, QWEN, ["<|endoftext|>", "<|im_end|>"], audio_token="<|audio_pad|>")
    return folder


@pytest.fixture(scope="module")
def granite_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers with an adapter in a file of its own."""
    folder = tmp_path_factory.mktemp("granite-speech")
    config = GraniteSpeechConfig(
        encoder_config={"hidden_dim": 32, "num_layers": 2, "num_heads": 4, "output_dim": 12, "context_size": 60,
                        "max_pos_emb": 80, "conv_kernel_size": 7, "feedforward_mult": 2},
        projector_config={"model_type": "blip_2_qformer", "hidden_size": 32, "encoder_hidden_size": 32,
                          "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
                          "cross_attention_frequency": 1, "vocab_size": 8},
        text_config={"model_type": "granite", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
                     "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": VOCAB, "logits_scaling": 4.0,
                     "tie_word_embeddings": True},
        audio_token_index=256 + GRANITE.index("<|audio|>"),
    )  # fmt: skip
    model = GraniteSpeechForConditionalGeneration(config)
    model.save_pretrained(folder)
    adapter = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    get_peft_model(model, adapter).save_pretrained(str(folder))  # PEFT wants text
    tokenizer(folder, GRANITE, ["<|end_of_text|>"])
    return folder


def over(hub: Hub, stack: str, folder: Path) -> StackSpec:
    return hub.stack(stack, weights={stack.rpartition("-")[0].removesuffix("-3.3"): folder})


CASES = [("qwen3-asr-0.6b", "qwen3_asr", "Qwen3ForCausalLM"), ("granite-speech-3.3-8b", "granite_speech",
          "GraniteForCausalLM")]  # fmt: skip


@pytest.mark.parametrize(("stack", "fixture", "architecture"), CASES)
def test_the_llm_is_the_one_that_is_loaded(
    hub: Hub, stack: str, fixture: str, architecture: str, request: pytest.FixtureRequest
) -> None:
    spec = over(hub, stack, request.getfixturevalue(fixture))
    found = structure.explore(hub, spec)
    assert found.architecture == architecture
    assert (found.layers, found.hidden_size, found.heads, found.vocab_size) == (2, 48, 4, VOCAB)
    assert found.tied
    assert found.qk_norm is (architecture == "Qwen3ForCausalLM")
    assert found.limits == ()
    with hub.load(spec, dtype="float32", device="cpu") as loaded:
        llm = loaded.component(Stage.LLM)
        assert found.parameters == llm.parameters
        shapes = {name: tuple(p.shape) for name, p in llm.model.named_parameters()}
        cache = llm.model.model(input_ids=torch.arange(10)[None], use_cache=True).past_key_values
    tree = {module.path: module.shape for module in found.modules}
    assert tree["model.layers.0-1.self_attn.k_proj"] == shapes["model.layers.0.self_attn.k_proj.weight"]
    float32 = structure.explore(hub, spec, dtype="float32").cache
    assert sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers) == 10 * float32.bytes_per_token
    shown = " ".join(section.sentence for section in sections(found))
    assert ("no heads are shared" in shown) is (found.heads == found.kv_heads)


def test_figures_that_stand_elsewhere_in_a_composite_config(hub: Hub, qwen3_asr: Path) -> None:
    assert structure.explore(hub, over(hub, "qwen3-asr-0.6b", qwen3_asr)).rope_theta == 5e5


@pytest.mark.parametrize(("stack", "fixture", "architecture"), CASES)
def test_every_tensor_goes_to_the_module_that_loads_it(
    hub: Hub, stack: str, fixture: str, architecture: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(fixture)
    spec = over(hub, stack, folder)
    found = weights.explore(hub, spec)
    assert found.compared_with == stack
    assert (found.missing, found.unused, found.reshaped) == ((), (), ())
    assert found.tied == (("lm_head.weight", "model.language_model.embed_tokens.weight"),)
    tensors: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        tensors.update(load_file(path))
    assert (found.tensors, found.nbytes) == (len(tensors), sum(t.nbytes for t in tensors.values()))
    with hub.load(spec, dtype="float32", device="cpu") as loaded:
        held = {stage.value: _module(loaded.component(stage)).state_dict() for stage in (Stage.ENCODER, Stage.LLM)}
    for kind in found.kinds:
        assert kind.stage, kind
        if kind.stage in held and "+=" not in kind.module and kind.shape:
            assert tuple(held[kind.stage][kind.module.replace("N", "0")].shape) == kind.shape, kind
    assert {kind.stage for kind in found.kinds} == {"encoder", "projector", "llm"}
    assert sum(kind.count for kind in found.kinds) == found.tensors
    assert sections(found)


def _module(component: Any) -> torch.nn.Module:
    module: torch.nn.Module = getattr(component, "module", None) or component.model
    return module


def test_an_adapter_beside_the_checkpoint_is_known(hub: Hub, granite_speech: Path) -> None:
    found = weights.explore(hub, over(hub, "granite-speech-3.3-8b", granite_speech))
    assert "language_model.model.norm.weight" in {kind.pattern for kind in found.kinds}
    assert [file.name for file in found.files] == ["adapter_model.safetensors", "model.safetensors"]
    factors = {kind.pattern.rpartition("layers.N.")[2]: kind for kind in found.kinds if ".lora_" in kind.pattern}
    assert set(factors) == {f"self_attn.{x}_proj.lora_{half}.weight" for x in "qv" for half in "AB"}
    kind = factors["self_attn.q_proj.lora_A.weight"]
    assert (kind.count, kind.shape) == (2, (4, 48))
    assert kind.module == "model.layers.N.self_attn.q_proj.weight += scaling * B A"


def test_what_does_not_agree_is_named(hub: Hub, qwen3_asr: Path, tmp_path: Path) -> None:
    tensors = load_file(qwen3_asr / "model.safetensors")
    del tensors["model.multi_modal_projector.linear_1.bias"]
    tensors["model.language_model.norm.weight"] = torch.ones(5)
    tensors["of_nothing"] = torch.ones(1)
    save_file(tensors, tmp_path / "model.safetensors")
    found = weights.explore(hub, over(hub, "qwen3-asr-0.6b", qwen3_asr), checkpoint=tmp_path)
    assert found.missing == ("model.multi_modal_projector.linear_1.bias",)
    assert found.unused == ("of_nothing",)
    assert found.reshaped == ("model.language_model.norm.weight",)


def test_a_head_in_the_file_is_its_own(hub: Hub, qwen3_asr: Path, tmp_path: Path) -> None:
    for path in qwen3_asr.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(qwen3_asr / "model.safetensors")
    save_file({**tensors, "lm_head.weight": torch.zeros(VOCAB, 48)}, tmp_path / "model.safetensors")
    spec = over(hub, "qwen3-asr-0.6b", tmp_path)
    found = weights.explore(hub, spec)
    assert (found.tied, found.unused) == ((), ())
    assert next(kind for kind in found.kinds if kind.pattern == "lm_head.weight").stage == "llm"
    llm = structure.explore(hub, spec)
    assert not llm.tied
    with hub.load(spec, dtype="float32", device="cpu") as loaded:
        assert llm.parameters == loaded.component(Stage.LLM).parameters


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("canary_hub.weights.checkpoint.snapshot", lambda ref: pytest.fail("went online"))


@pytest.mark.usefixtures("offline")
def test_the_published_model_from_its_configuration(hub: Hub) -> None:
    llm = structure.explore(hub, "qwen3-asr-1.7b")
    assert (llm.layers, llm.hidden_size, llm.parameters) == (28, 2048, 1_720_574_976)
    assert "head is taken to be the embeddings" in llm.limits[0]
    found = weights.explore(hub, "qwen3-asr-1.7b")
    assert (found.files, found.source) == ((), "the configuration")
    assert found.dtypes == {"BF16": found.tensors}
    assert 3.7e9 < found.nbytes < 4.2e9  # the download is said to be 3.8 GB
    assert {group.name for group in found.groups if not group.depth} == {
        "model.audio_tower", "model.multi_modal_projector", "model.language_model"}  # fmt: skip


@pytest.mark.usefixtures("offline")
def test_a_configuration_made_for_contracts_alone_is_not_taken_for_the_model(hub: Hub) -> None:
    for exploration in (structure, weights):
        with pytest.raises(HubError, match="on this machine") as caught:
            exploration.explore(hub, "granite-speech-3.3-8b")
        assert "--weights granite-speech=DIR" in caught.value.hint


def test_a_model_without_lora_says_so(hub: Hub, qwen3_asr: Path) -> None:
    with pytest.raises(HubError, match="has no LoRA"):
        lora.explore(hub, over(hub, "qwen3-asr-0.6b", qwen3_asr))


@pytest.mark.parametrize("name", ["structure", "weights"])
def test_on_the_command_line(name: str, qwen3_asr: Path) -> None:
    stack = ["--stack", "qwen3-asr-0.6b", "--weights", f"qwen3-asr={qwen3_asr}"]
    done = CliRunner().invoke(main, ["explore", name, *stack, "--plugins-dir", str(ROOT / "plugins")])
    assert done.exit_code == 0, done.output
    assert (
        "Qwen3ForCausalLM" in done.output if name == "structure" else "Every tensor of the file is used" in done.output
    )
