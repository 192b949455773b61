"""Qwen3-ASR through the five stages against transformers' own model and processor, on random tiny weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from composite import RATE, VOCAB, assert_independent_of_its_batch, assert_same, hear, left_padded, sound, tokenizer
from safetensors.torch import load_file, save_file
from torch.nn.functional import pad
from transformers import (
    Qwen3ASRConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRProcessor,
)

from canary_hub import Hub
from canary_hub.audio.waveform import Waveform
from canary_hub.compare import Comparison, LaneResult, compare
from canary_hub.errors import WeightsError
from canary_hub.lanes import parse_lane
from canary_hub.pipeline import Stack
from canary_hub.specs import Stage
from canary_hub.stages import AudioSlot

CONTROL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|audio_pad|>",
    "<asr_text>",
]
PROMPT = (
    "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n"
    "<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("qwen3-asr")


@pytest.fixture(scope="module")
def model(folder: Path) -> Qwen3ASRForConditionalGeneration:
    torch.manual_seed(0)
    config = Qwen3ASRConfig(
        audio_config={"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64,
                      "downsample_hidden_size": 8, "output_dim": 48, "num_mel_bins": 128, "initializer_range": 0.2},
        text_config={"model_type": "qwen3", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
                     "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": VOCAB,
                     "tie_word_embeddings": True, "initializer_range": 0.2},
        audio_token_id=256 + CONTROL.index("<|audio_pad|>"),
        initializer_range=0.2,
    )  # fmt: skip
    model = Qwen3ASRForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def processor(folder: Path, model: object) -> Qwen3ASRProcessor:
    fast = tokenizer(
        folder, CONTROL, ["<|endoftext|>", "<|im_end|>"],
        audio_token="<|audio_pad|>", audio_bos_token="<|audio_start|>", audio_eos_token="<|audio_end|>",
    )  # fmt: skip
    return Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), fast)


@pytest.fixture(scope="module")
def hub() -> Hub:
    return Hub(Path(__file__).parents[2], allow=["qwen3_asr"])


@pytest.fixture(scope="module")
def stack(hub: Hub, folder: Path, processor: object) -> Stack:
    return hub.load("qwen3-asr-0.6b", weights={"qwen3-asr": folder}, dtype="float32", device="cpu")


def own_inputs(
    processor: Qwen3ASRProcessor, clips: list[torch.Tensor], prompt: str = PROMPT
) -> dict[str, torch.Tensor]:
    """What the processor gives for every clip alone, as one batch."""
    alone = [processor(text=[prompt], audio=[clip.numpy()]) for clip in clips]
    longest = max(one["input_features"].shape[-1] for one in alone)

    def stacked(key: str) -> torch.Tensor:
        return torch.cat([pad(one[key], (0, longest - one[key].shape[-1])) for one in alone])

    return {
        **left_padded([one["input_ids"][0] for one in alone]),
        "input_features": stacked("input_features"),
        "input_features_mask": stacked("input_features_mask"),
    }


@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.37, 34.56])
def test_one_clip(stack: Stack, model: object, processor: Qwen3ASRProcessor, seconds: float) -> None:
    clips = [sound(seconds)]
    heard = assert_same(stack, model, own_inputs(processor, clips), clips)
    expected = {0.2: 7, 1.0: 13, 3.37: 44, 34.56: 449}  # 13 a second; 0.2 s is filled up to 0.5 s
    assert heard.frames == [expected[seconds]]


def test_a_padded_batch(stack: Stack, model: object, processor: Qwen3ASRProcessor) -> None:
    clips = [sound(1.29, 1), sound(31.2, 2), sound(0.3, 3), sound(8.0, 4)]
    assert_same(stack, model, own_inputs(processor, clips), clips)
    assert_independent_of_its_batch(stack, clips)


def test_a_known_language_and_a_context(stack: Stack, model: object, processor: Qwen3ASRProcessor) -> None:
    prompt = PROMPT.replace("system\n", "system\nCanary, <|im_end|?").replace("<|im_end|?", "nano")
    clips = [sound(2.0)]
    inputs = own_inputs(processor, clips, prompt + "language English<asr_text>")
    assert_same(stack, model, inputs, clips, language="English", context="Canary, nano")


def test_typed_text_is_no_control_token(stack: Stack) -> None:
    llm, template = stack.component(Stage.LLM), stack.component(Stage.PROMPT_TEMPLATE)
    options = stack.call_options(context="<|im_end|><|audio_pad|>")[Stage.PROMPT_TEMPLATE]
    segments = template.render(options)
    ids = llm.tokenize(segments)
    assert ids.count(llm.placeholder_id) == sum(isinstance(piece, AudioSlot) for piece in segments) == 1
    assert ids.count(llm.tokenizer.control_id("<|im_end|>")) == 2


def test_the_answer_is_what_follows_the_language(stack: Stack) -> None:
    llm = stack.component(Stage.LLM)
    tag, end = llm.tokenizer.control_id("<asr_text>"), llm.tokenizer.control_id("<|im_end|>")
    spelled = {text: llm.tokenizer._encode_plain(text) for text in ("language English", "one two")}
    assert llm.decode([*spelled["language English"], tag, *spelled["one two"], end]) == "one two"
    assert llm.decode([*spelled["one two"], *llm.eos_ids]) == "one two"


def test_the_pipeline_and_its_details(stack: Stack) -> None:
    wave = Waveform(sound(2.5).numpy(), RATE, "sound")
    done = list(stack.stream(wave, details=True, max_new_tokens=5))[-1]
    (segment,) = done.result.trace.segments
    assert len(segment.frames) == 33
    assert [token.slot for token in segment.prompt].count(True) == 1
    assert segment.counts.endswith("= " + str(len(segment.prompt) - 1 + 33) + " embeddings")
    assert done.result.segments[0].tokens == len(segment.tokens)
    assert all(token.frame is not None for token in segment.tokens)
    assert not done.result.warnings


def test_compare_runs_it_beside_nano(hub: Hub, folder: Path, processor: object) -> None:
    lanes = ["nano", f"qwen3-asr-0.6b weights.qwen3-asr={folder} dtype=float32 max_new_tokens=3"]
    *_, result = compare(hub, [parse_lane(lane) for lane in lanes], Waveform(sound(2.0).numpy(), RATE, "sound"))
    assert isinstance(result, Comparison)
    other = result.lanes[1]
    assert isinstance(other, LaneResult)
    assert other.components["llm"] == "qwen3-asr/qwen3"
    assert other.segments[0].audio_frames == 26
    assert other.segments[0].tokens <= 3


def test_an_empty_clip_beside_another(stack: Stack) -> None:
    x, lengths = stack.component(Stage.PREPROCESSOR)(torch.zeros(2, RATE), torch.tensor([0, RATE]))
    hidden, frames = stack.component(Stage.ENCODER)(x, lengths)
    assert frames.tolist() == [0, 13]
    assert hidden.shape == (2, 13, 32)
    none, zero = stack.component(Stage.ENCODER)(x[:1], lengths[:1])
    assert none.shape[:2] == (1, 0)
    assert zero.tolist() == [0]


def test_bfloat16_is_close(hub: Hub, folder: Path, stack: Stack) -> None:
    half = hub.load("qwen3-asr-0.6b", weights={"qwen3-asr": folder}, dtype="bfloat16", device="cpu")
    a, b = hear(stack, [sound(2.0)]), hear(half, [sound(2.0)])
    assert b.logits.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(a.logits[0, -1], b.logits[0, -1].float(), dim=0) > 0.99


def test_every_tensor_is_accounted_for(hub: Hub, folder: Path, stack: Stack, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.audio_tower.extra"] = tensors.pop("model.audio_tower.ln_post.bias")
    (tmp_path / "model.safetensors").unlink()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"1 missing: model\.audio_tower\.ln_post\.bias; 1 unexpected"):
        hub.load("qwen3-asr-0.6b", weights={"qwen3-asr": tmp_path}, dtype="float32", device="cpu")


def test_a_config_of_another_model_is_refused(hub: Hub, folder: Path, stack: Stack, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    for change, why in (
        ({"model_type": "voxtral"}, "of type 'voxtral'; qwen3-asr reads 'qwen3_asr'"),
        ({"audio_config": {**config["audio_config"], "encoder_attention_heads": 5}}, "builds no Qwen3ASR"),
        ({"audio_config": {**config["audio_config"], "n_window": 25}}, "n_window = 25"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(WeightsError, match=why):
            hub.load("qwen3-asr-0.6b", weights={"qwen3-asr": tmp_path}, dtype="float32", device="cpu")


def test_both_sizes_fit_before_anything_is_downloaded(hub: Hub) -> None:
    for name in ("qwen3-asr-0.6b", "qwen3-asr-1.7b"):
        spec = hub.stack(name)
        fit = hub.check(spec)
        assert not fit.problems
        assert not fit.warnings
        assert len(spec.weights["qwen3-asr"].revision) == 40
    sizes = [hub.contract(hub.registry.component(f"qwen3-asr/{part}")).produces[0] for part in ("encoder", "projector")]
    assert [(port.dim, port.rate_hz) for port in sizes] == [(896, 13.0), (1024, 13.0)]
