"""Qwen2-Audio through the five stages against transformers' own model and processor, on random tiny weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composite import RATE, VOCAB, assert_independent_of_its_batch, assert_same, left_padded, sound, tokenizer
from safetensors.torch import load_file, save_file
from transformers import (
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from canary_hub import Hub
from canary_hub.audio.waveform import Waveform
from canary_hub.pipeline import Stack
from canary_hub.specs import Stage

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nAudio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\nTranscribe the speech word for word.<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("qwen2-audio")


@pytest.fixture(scope="module")
def model(folder: Path) -> Qwen2AudioForConditionalGeneration:
    torch.manual_seed(0)
    config = Qwen2AudioConfig(
        audio_config={"model_type": "qwen2_audio_encoder", "d_model": 32, "encoder_layers": 2,
                      "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "num_mel_bins": 128,
                      "initializer_range": 0.2},
        text_config={"model_type": "qwen2", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
                     "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": VOCAB,
                     "initializer_range": 0.2},
        audio_token_index=256 + CONTROL.index("<|AUDIO|>"),
        initializer_range=0.2,
    )  # fmt: skip
    model = Qwen2AudioForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def processor(folder: Path, model: object) -> Qwen2AudioProcessor:
    fast = tokenizer(folder, CONTROL, ["<|im_end|>", "<|endoftext|>"])
    return Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=128), fast)


@pytest.fixture(scope="module")
def hub() -> Hub:
    return Hub(Path(__file__).parents[2], allow=["qwen2_audio"])


@pytest.fixture(scope="module")
def stack(hub: Hub, folder: Path, processor: object) -> Stack:
    return hub.load("qwen2-audio-7b", weights={"qwen2-audio": folder}, dtype="float32", device="cpu")


def own_inputs(processor: Qwen2AudioProcessor, clips: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the processor gives for every clip alone, as one batch."""
    alone = [processor(text=[PROMPT], audio=[clip.numpy()], sampling_rate=RATE, return_tensors="pt") for clip in clips]
    return {
        **left_padded([one["input_ids"][0] for one in alone]),
        "input_features": torch.cat([one["input_features"] for one in alone]),
        "feature_attention_mask": torch.cat([one["feature_attention_mask"] for one in alone]),
    }


@pytest.mark.parametrize(("seconds", "frames"), [(0.1, 2), (3.37, 84), (30.0, 750)])
def test_one_clip(stack: Stack, model: object, processor: Qwen2AudioProcessor, seconds: float, frames: int) -> None:
    clips = [sound(seconds)]
    assert assert_same(stack, model, own_inputs(processor, clips), clips).frames == [frames]


def test_a_padded_batch(stack: Stack, model: object, processor: Qwen2AudioProcessor) -> None:
    clips = [sound(1.29, 1), sound(29.5, 2), sound(8.0, 3)]
    assert_same(stack, model, own_inputs(processor, clips), clips)
    assert_independent_of_its_batch(stack, clips)


def test_a_long_clip_is_heard_in_pieces_of_30_seconds(
    stack: Stack, model: object, processor: Qwen2AudioProcessor
) -> None:
    """The model's processor drops what lies behind 30 s; the pipeline cuts, and each piece is at parity."""
    wave = Waveform(sound(41.0).numpy(), RATE, "sound")
    done = list(stack.stream(wave, details=True, max_new_tokens=4))[-1]
    pieces = done.result.trace.segments
    assert len(pieces) == 2
    assert pieces[0].start == 0
    assert pieces[-1].end == pytest.approx(41.0)
    for piece in pieces:
        clip = torch.from_numpy(wave.samples[round(piece.start * RATE) : round(piece.end * RATE)])
        inputs = own_inputs(processor, [clip])
        own = model.generate(
            **inputs, max_new_tokens=4, do_sample=False, eos_token_id=list(stack.component(Stage.LLM).eos_ids)
        )
        assert [token.id for token in piece.tokens] == own[0, inputs["input_ids"].shape[1] :].tolist()


def test_the_layout_of_the_published_files(hub: Hub, folder: Path, stack: Stack, tmp_path: Path) -> None:
    """The repository was saved before transformers 5, with other names for the same tensors."""
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "model.safetensors").unlink()
    tensors = {
        name.replace("model.language_model.", "language_model.model.")
        .replace("model.audio_tower", "audio_tower")
        .replace("model.multi_modal", "multi_modal")
        .replace("lm_head", "language_model.lm_head", 0 if name.startswith("language_model") else 1): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    assert "language_model.lm_head.weight" in tensors
    assert any(name.startswith("language_model.model.layers") for name in tensors)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    older = hub.load("qwen2-audio-7b", weights={"qwen2-audio": tmp_path}, dtype="float32", device="cpu")
    ours, theirs = (one.component(Stage.LLM).model.state_dict() for one in (older, stack))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_published_parts_fit_before_anything_is_downloaded(hub: Hub) -> None:
    spec = hub.stack("qwen2-audio-7b")
    assert not hub.check(spec).problems
    assert not hub.check(spec).warnings
    assert hub.contract(hub.registry.component("qwen2-audio/projector")).produces[0].dim == 4096
