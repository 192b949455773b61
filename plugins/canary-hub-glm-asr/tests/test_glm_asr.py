"""GLM-ASR through the five stages against transformers' own model and processor, on random tiny weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composite import RATE, VOCAB, assert_independent_of_its_batch, assert_same, left_padded, sound, tokenizer
from transformers import GlmAsrConfig, GlmAsrForConditionalGeneration, GlmAsrProcessor, WhisperFeatureExtractor

from canary_hub import Hub
from canary_hub.pipeline import Stack
from canary_hub.specs import Stage

CONTROL = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|begin_of_audio|>", "<|end_of_audio|>", "<|pad|>"]
PROMPT = (
    "<|user|>\n<|begin_of_audio|><|pad|><|end_of_audio|><|user|>\nPlease transcribe this audio into text<|assistant|>\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("glm-asr")


@pytest.fixture(scope="module")
def model(folder: Path) -> GlmAsrForConditionalGeneration:
    torch.manual_seed(0)
    config = GlmAsrConfig(
        audio_config={"model_type": "glmasr_encoder", "hidden_size": 32, "intermediate_size": 128,
                      "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2},
        text_config={"model_type": "llama", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
                     "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB,
                     "initializer_range": 0.2, "eos_token_id": 256},
        audio_token_id=256 + CONTROL.index("<|pad|>"),
        tie_word_embeddings=False,
        initializer_range=0.2,
    )  # fmt: skip
    model = GlmAsrForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def processor(folder: Path, model: object) -> GlmAsrProcessor:
    fast = tokenizer(folder, CONTROL, ["<|user|>", "<|assistant|>", "<|endoftext|>"])
    return GlmAsrProcessor(WhisperFeatureExtractor(feature_size=128), fast)


@pytest.fixture(scope="module")
def hub() -> Hub:
    return Hub(Path(__file__).parents[2], allow=["glm_asr"])


@pytest.fixture(scope="module")
def stack(hub: Hub, folder: Path, processor: object) -> Stack:
    return hub.load("glm-asr-nano", weights={"glm-asr": folder}, dtype="float32", device="cpu")


def own_inputs(processor: GlmAsrProcessor, clips: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the processor gives for every clip alone, as one batch: all windows of all clips."""
    alone = [processor(text=[PROMPT], audio=[clip.numpy()]) for clip in clips]
    return {
        **left_padded([one["input_ids"][0] for one in alone]),
        "input_features": torch.cat([one["input_features"] for one in alone]),
        "input_features_mask": torch.cat([one["input_features_mask"] for one in alone]),
    }


@pytest.mark.parametrize(("seconds", "frames"), [(0.1, 1), (3.37, 42), (30.0, 375), (34.56, 432)])
def test_one_clip(stack: Stack, model: object, processor: GlmAsrProcessor, seconds: float, frames: int) -> None:
    clips = [sound(seconds)]
    assert assert_same(stack, model, own_inputs(processor, clips), clips).frames == [frames]


def test_a_padded_batch(stack: Stack, model: object, processor: GlmAsrProcessor) -> None:
    clips = [sound(1.29, 1), sound(31.2, 2), sound(8.0, 3)]
    assert_same(stack, model, own_inputs(processor, clips), clips)
    assert_independent_of_its_batch(stack, clips)


def test_a_clip_too_short_for_one_embedding(stack: Stack) -> None:
    x, lengths = stack.component(Stage.PREPROCESSOR)(torch.zeros(2, RATE), torch.tensor([160, RATE]))
    for stage in (Stage.ENCODER, Stage.PROJECTOR):
        x, lengths = stack.component(stage)(x, lengths)
    assert lengths.tolist() == [0, 12]


def test_the_head_of_the_file_is_used(stack: Stack, model: GlmAsrForConditionalGeneration) -> None:
    """The published head differs from the embeddings, though the config class would tie them."""
    llm = stack.component(Stage.LLM).model
    assert torch.equal(llm.lm_head.weight, model.lm_head.weight)
    assert not torch.equal(llm.lm_head.weight, llm.model.embed_tokens.weight)


def test_the_published_parts_fit_before_anything_is_downloaded(hub: Hub) -> None:
    spec = hub.stack("glm-asr-nano")
    assert not hub.check(spec).problems
    assert not hub.check(spec).warnings
    (port,) = hub.contract(hub.registry.component("glm-asr/projector")).produces
    assert (port.dim, port.rate_hz) == (2048, 12.5)
