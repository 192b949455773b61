"""Audio Flamingo 3 through the five stages against transformers' own model and processor, on random tiny weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from canary_hub_audio_flamingo.components import transcript
from composite import RATE, VOCAB, assert_independent_of_its_batch, assert_same, hear, left_padded, sound, tokenizer
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    WhisperFeatureExtractor,
)

from canary_hub import Hub
from canary_hub.audio.waveform import Waveform
from canary_hub.pipeline import Stack
from canary_hub.specs import Stage
from canary_hub.stages import Text

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>"]
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<sound>Transcribe the input speech.<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audio-flamingo")


@pytest.fixture(scope="module")
def model(folder: Path) -> AudioFlamingo3ForConditionalGeneration:
    torch.manual_seed(0)
    config = AudioFlamingo3Config(
        audio_config={"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
                      "initializer_range": 0.2},
        text_config={"model_type": "qwen2", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
                     "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB,
                     "initializer_range": 0.2, "tie_word_embeddings": False},
        audio_token_id=256 + CONTROL.index("<sound>"),
        tie_word_embeddings=False,
        initializer_range=0.2,
    )  # fmt: skip
    model = AudioFlamingo3ForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def processor(folder: Path, model: object) -> AudioFlamingo3Processor:
    fast = tokenizer(folder, CONTROL, ["<|im_end|>", "<|endoftext|>"])
    return AudioFlamingo3Processor(WhisperFeatureExtractor(feature_size=128, return_attention_mask=True), fast)


@pytest.fixture(scope="module")
def stack(folder: Path, processor: object) -> Stack:
    hub = Hub(Path(__file__).parents[2], allow=["audio_flamingo"])
    return hub.load("audio-flamingo-3", weights={"audio-flamingo": folder}, dtype="float32", device="cpu")


def own_inputs(processor: AudioFlamingo3Processor, clips: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the processor gives for every clip alone, as one batch: all windows of all clips."""
    alone = [processor(text=[PROMPT], audio=[clip.numpy()]) for clip in clips]
    return {
        **left_padded([one["input_ids"][0] for one in alone]),
        "input_features": torch.cat([one["input_features"] for one in alone]),
        "input_features_mask": torch.cat([one["input_features_mask"] for one in alone]),
    }


@pytest.mark.parametrize(("seconds", "frames"), [(0.05, 1), (3.37, 84), (30.0, 750), (34.56, 864)])
def test_one_clip(stack: Stack, model: object, processor: AudioFlamingo3Processor, seconds: float, frames: int) -> None:
    clips = [sound(seconds)]
    assert assert_same(stack, model, own_inputs(processor, clips), clips).frames == [frames]


def test_a_padded_batch(stack: Stack, model: object, processor: AudioFlamingo3Processor) -> None:
    clips = [sound(1.29, 1), sound(31.2, 2), sound(8.0, 3)]
    assert_same(stack, model, own_inputs(processor, clips), clips)
    assert_independent_of_its_batch(stack, clips)


def test_the_pipeline_hears_a_long_clip_in_one_piece(stack: Stack) -> None:
    wave = Waveform(sound(41.0).numpy(), RATE, "sound")
    done = list(stack.stream(wave, details=True, max_new_tokens=3))[-1]
    (segment,) = done.result.trace.segments
    assert len(segment.frames) == 1025
    assert segment.frame_seconds == pytest.approx(0.04)
    assert not done.result.warnings


def test_an_empty_clip_beside_another(stack: Stack) -> None:
    x, lengths = stack.component(Stage.PREPROCESSOR)(torch.zeros(2, RATE), torch.tensor([0, RATE]))
    hidden, frames = stack.component(Stage.ENCODER)(x, lengths)
    assert frames.tolist() == [0, 25]
    assert hidden.shape == (2, 25, 32)


def test_bfloat16_is_close(stack: Stack, folder: Path) -> None:
    hub = Hub(Path(__file__).parents[2], allow=["audio_flamingo"])
    half = hub.load("audio-flamingo-3", weights={"audio-flamingo": folder}, dtype="bfloat16", device="cpu")
    a, b = hear(stack, [sound(2.0)]), hear(half, [sound(2.0)])
    assert torch.nn.functional.cosine_similarity(a.logits[0, -1], b.logits[0, -1].float(), dim=0) > 0.98


def test_a_transcript_is_shown_without_its_frame(stack: Stack) -> None:
    def shown(text: str) -> str:
        return text[transcript(text)]

    whole = 'The spoken content of the audio is "She said: no.".'
    assert shown(whole) == "She said: no."
    assert shown(whole[:41]) == "She s"
    assert shown("The transcription of the audio is 'one'.") == "one"
    assert shown("A dog barks.") == "A dog barks."
    llm = stack.component(Stage.LLM)
    ids = llm.tokenizer.encode([Text(whole)])
    assert llm.decode(ids) == "She said: no."
    assert llm.decode(ids[llm.left_out(ids) :]).startswith("She")
    assert llm.left_out(llm.tokenizer.encode([Text("A dog")])) == 0


def test_the_published_parts_fit_before_anything_is_downloaded() -> None:
    hub = Hub(Path(__file__).parents[2], allow=["audio_flamingo", "qwen2_audio"])
    spec = hub.stack("audio-flamingo-3")
    assert not hub.check(spec).problems
    assert not hub.check(spec).warnings
    assert hub.contract(hub.registry.component("audio-flamingo/projector")).produces[0].dim == 3584


def test_the_encoder_of_another_family_is_offered_with_a_warning() -> None:
    hub = Hub(Path(__file__).parents[2], allow=["audio_flamingo", "qwen2_audio", "voxtral"])
    swapped = hub.stack("audio-flamingo-3", components={Stage.ENCODER: "qwen2-audio/whisper"})
    fit = hub.check(swapped)
    assert not fit.problems
    assert any("were not trained together" in warning for warning in fit.warnings)
    refused = hub.check(hub.stack("audio-flamingo-3", components={Stage.ENCODER: "voxtral/whisper"}))
    assert any("at 50 Hz" in problem for problem in refused.problems)
