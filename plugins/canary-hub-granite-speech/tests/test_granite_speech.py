"""Granite Speech through the five stages against transformers' own model, on random tiny weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from canary_hub_granite_speech.components import LogMel
from composite import RATE, VOCAB, assert_independent_of_its_batch, assert_same, hear, left_padded, sound, tokenizer
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from transformers import GraniteSpeechConfig, GraniteSpeechForConditionalGeneration

from canary_hub import Hub
from canary_hub.audio.waveform import Waveform
from canary_hub.errors import WeightsError
from canary_hub.pipeline import Stack
from canary_hub.specs import Stage

CONTROL = ["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|audio|>"]
SCALING = 4.0
PROMPT = (
    "<|start_of_role|>system<|end_of_role|>Knowledge Cutoff Date: April 2024.\nToday's Date: April 9, 2025.\n"
    "You are Granite, developed by IBM. You are a helpful AI assistant<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|><|audio|>can you transcribe the speech into a written format?<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("granite-speech")


@pytest.fixture(scope="module")
def model(folder: Path) -> GraniteSpeechForConditionalGeneration:
    torch.manual_seed(0)
    config = GraniteSpeechConfig(
        encoder_config={"hidden_dim": 32, "num_layers": 2, "num_heads": 4, "output_dim": 12, "context_size": 60,
                        "max_pos_emb": 80, "conv_kernel_size": 7, "feedforward_mult": 2, "initializer_range": 0.2},
        projector_config={"model_type": "blip_2_qformer", "hidden_size": 32, "encoder_hidden_size": 32,
                          "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
                          "cross_attention_frequency": 1, "vocab_size": 8, "initializer_range": 0.2},
        text_config={"model_type": "granite", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
                     "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB,
                     "initializer_range": 0.2, "embedding_multiplier": 3.0, "residual_multiplier": 0.5,
                     "attention_multiplier": 0.2, "logits_scaling": SCALING, "tie_word_embeddings": True},
        audio_token_index=256 + CONTROL.index("<|audio|>"),
        initializer_range=0.2,
    )  # fmt: skip
    model = GraniteSpeechForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    adapter = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, adapter).eval().save_pretrained(str(folder))
    return model


def switch(model: torch.nn.Module, on: bool) -> None:
    """The adapter of transformers' model, by PEFT alone: transformers' own switch asks for a PEFT of its own age."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(on)


@pytest.fixture(scope="module")
def fast(folder: Path, model: object) -> Any:
    return tokenizer(folder, CONTROL, ["<|end_of_text|>"])


@pytest.fixture(scope="module")
def hub() -> Hub:
    return Hub(Path(__file__).parents[2], allow=["granite_speech"])


@pytest.fixture(scope="module")
def stack(hub: Hub, folder: Path, fast: object) -> Stack:
    return load(hub, folder)


def load(hub: Hub, folder: Path, **changes: Any) -> Stack:
    return hub.load(
        "granite-speech-3.3-8b", weights={"granite-speech": folder}, dtype="float32", device="cpu", **changes
    )


def own_inputs(fast: Any, clips: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Features as GraniteSpeechFeatureExtractor computes them, by librosa in torchaudio's place, for one clip or
    for clips of one length, and its number of audio tokens."""
    features, rows = [], []
    for clip in clips:
        mel = librosa.feature.melspectrogram(
            y=clip.numpy(), sr=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=80, fmax=RATE / 2,
            htk=True, norm=None, pad_mode="reflect",
        )  # fmt: skip
        log = np.log10(np.clip(mel.T, 1e-10, None))
        log = np.maximum(log, log.max() - 8) / 4 + 1
        features.append(torch.from_numpy(log[: len(log) // 2 * 2].reshape(-1, 160)).float())
        tokens = -(-((len(clip) // 160 + 1) // 2) // 15) * 3
        rows.append(torch.tensor(fast(PROMPT.replace("<|audio|>", "<|audio|>" * tokens))["input_ids"]))
    return {**left_padded(rows), "input_features": torch.stack(features)}


def test_the_front_end_equals_librosa(fast: Any) -> None:
    for seconds in (0.5, 3.37):
        expected = own_inputs(fast, [sound(seconds)])["input_features"][0].T
        features, (frames,) = LogMel(160)(sound(seconds)[None], torch.tensor([len(sound(seconds))]))
        assert features[0].shape == expected.shape
        assert frames == expected.shape[1]
        torch.testing.assert_close(features[0], expected, atol=2e-5, rtol=0)


def with_our_features(
    stack: Stack, inputs: dict[str, torch.Tensor], clips: list[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The same inputs with our front end's features, which differ from librosa's by rounding alone."""
    wav = torch.stack(clips)
    features, _ = stack.component(Stage.PREPROCESSOR)(wav, torch.tensor([wav.shape[1]] * len(wav)))
    return {**inputs, "input_features": features.transpose(1, 2)}


@pytest.mark.parametrize(("seconds", "frames"), [(0.4, 6), (3.37, 36), (34.56, 348)])
@pytest.mark.parametrize("llm", ["granite-speech/granite", "granite-speech/granite-peft"])
def test_one_clip(hub: Hub, folder: Path, model: object, fast: Any, seconds: float, frames: int, llm: str) -> None:
    stack = load(hub, folder, components={Stage.LLM: llm})
    clips = [sound(seconds)]
    inputs = with_our_features(stack, own_inputs(fast, clips), clips)
    assert assert_same(stack, model, inputs, clips, scale=SCALING).frames == [frames]


def test_a_batch_of_equal_clips(stack: Stack, model: object, fast: Any) -> None:
    clips = [sound(2.0, 1), sound(2.0, 2)]
    assert_same(stack, model, with_our_features(stack, own_inputs(fast, clips), clips), clips, scale=SCALING)


def test_a_padded_batch_equals_the_model_on_each_clip_alone(stack: Stack, model: object, fast: Any) -> None:
    """Its own batches let the padding of shorter clips in, so there is nothing else to be equal to."""
    clips = [sound(1.29, 1), sound(31.2, 2), sound(8.0, 3)]
    for clip in clips:
        assert_same(stack, model, with_our_features(stack, own_inputs(fast, [clip]), [clip]), [clip], scale=SCALING)
    assert_independent_of_its_batch(stack, clips)


def test_off_is_the_base_and_on_again_is_the_adapter(
    hub: Hub, folder: Path, model: Any, fast: Any, stack: Stack
) -> None:
    clips = [sound(2.0)]
    inputs = with_our_features(stack, own_inputs(fast, clips), clips)
    live = load(hub, folder, components={Stage.LLM: "granite-speech/granite-peft"})
    for one in (stack, live):
        heard = hear(one, clips)
        llm = one.component(Stage.LLM)
        logits = {}
        for on in (False, True):
            options = one.call_options(adapter=on, max_new_tokens=1)[Stage.LLM]
            (step,) = llm.generate(heard.embeds, heard.mask, options)
            switch(model, on)
            with torch.inference_mode():
                own = model(**inputs).logits[:, -1] / SCALING
            torch.testing.assert_close(step.logits, own, atol=1e-5, rtol=0)
            logits[on] = step.logits
        assert (logits[True] - logits[False]).abs().max() > 0.1


@pytest.mark.parametrize("llm", ["granite-speech/granite", "granite-speech/granite-peft"])
def test_bfloat16_is_close(hub: Hub, folder: Path, stack: Stack, llm: str) -> None:
    weights = {"granite-speech": folder}
    half = hub.load(
        "granite-speech-3.3-8b", weights=weights, dtype="bfloat16", device="cpu", components={Stage.LLM: llm}
    )
    heard = hear(half, [sound(2.0)])
    settings = half.call_options(max_new_tokens=3)[Stage.LLM]
    steps = list(half.component(Stage.LLM).generate(heard.embeds, heard.mask, settings, attention=True))
    assert steps[0].attention is not None
    expected = hear(stack, [sound(2.0)]).logits[0, -1]
    assert torch.nn.functional.cosine_similarity(steps[0].logits[0].float(), expected, dim=0) > 0.98


def test_llm_mode_answers_with_the_adapter_off(stack: Stack, model: Any, fast: Any) -> None:
    assert stack.chats
    answers = list(stack.chat("hello", max_new_tokens=4))
    prompt = "<|start_of_role|>user<|end_of_role|>hello<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>"
    ids = torch.tensor([fast(prompt)["input_ids"]])
    switch(model, False)
    own = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
    switch(model, True)
    written = stack.component(Stage.LLM).decode(own[0, ids.shape[1] :].tolist())
    assert answers[-1].text.strip() == written.strip()


def test_a_clip_too_short_and_the_details(stack: Stack) -> None:
    x, lengths = stack.component(Stage.PREPROCESSOR)(torch.zeros(2, RATE), torch.tensor([200, RATE]))
    for stage in (Stage.ENCODER, Stage.PROJECTOR):
        x, lengths = stack.component(stage)(x, lengths)
    assert lengths.tolist() == [0, 12]
    wave = Waveform(sound(0.7).numpy(), RATE, "sound")
    done = list(stack.stream(wave, details=True, max_new_tokens=4))[-1]
    (segment,) = done.result.trace.segments
    assert len(segment.frames) == 9
    assert segment.frame_seconds == pytest.approx(0.1)


def test_an_adapter_under_older_names_is_the_same(hub: Hub, folder: Path, stack: Stack, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    tensors = load_file(folder / "adapter_model.safetensors")
    bare = {"layers." + name.partition("layers.")[2]: tensor for name, tensor in tensors.items()}
    older = {f"base_model.model.language_model.model.{name}": tensor for name, tensor in bare.items()}
    assert len(older) == 8
    (tmp_path / "adapter_model.safetensors").unlink()
    save_file(older, tmp_path / "adapter_model.safetensors")
    clips = [sound(1.0)]
    assert torch.equal(hear(load(hub, tmp_path), clips).logits, hear(stack, clips).logits)


def test_an_adapter_of_another_model_is_refused(hub: Hub, folder: Path, stack: Stack, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    tensors = load_file(folder / "adapter_model.safetensors")
    name = next(iter(tensors))
    tensors[name.replace("layers.0", "layers.7")] = tensors.pop(name)
    (tmp_path / "adapter_model.safetensors").unlink()
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(WeightsError, match=r"1 unknown .*layers\.7.*, 1 incomplete"):
        load(hub, tmp_path)


def test_the_published_parts_fit_before_anything_is_downloaded(hub: Hub) -> None:
    fit = hub.check(hub.stack("granite-speech-3.3-8b"))
    assert not fit.problems
    assert not fit.warnings
    (port,) = hub.contract(hub.registry.component("granite-speech/q-former")).produces
    assert (port.dim, port.rate_hz) == (4096, 10.0)
