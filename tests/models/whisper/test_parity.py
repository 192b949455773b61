"""Whisper through the five stages against transformers' own feature extractor, encoder and generate()."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from composite import RATE, sound
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from canary_hub import Hub
from canary_hub.audio.waveform import Waveform
from canary_hub.errors import HubError
from canary_hub.explore import explore
from canary_hub.pipeline import Stack
from canary_hub.run.injection import inject
from canary_hub.specs import Stage

TOKENS = 12
START, NO_TIMES = 257, 259


def heard(stack: Stack, clips: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (B, F, T), hidden (B, N, D), lengths (B,)."""
    lengths = torch.tensor([len(clip) for clip in clips])
    wav = torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    features, frames = stack.component(Stage.PREPROCESSOR)(wav, lengths)
    return features, *stack.component(Stage.ENCODER)(features, frames)


def ours(stack: Stack, clips: Sequence[torch.Tensor], **options: Any) -> tuple[list[list[int]], torch.Tensor]:
    """Greedy ids by row, and the logits of every step (B, steps, V)."""
    called = stack.call_options(max_new_tokens=TOKENS, no_speech=1.0, **options)
    llm = stack.component(Stage.LLM)
    prompt = llm.tokenize(stack.component(Stage.PROMPT_TEMPLATE).render(called[Stage.PROMPT_TEMPLATE]))
    _, hidden, frames = heard(stack, clips)
    audio = [row[:n] for row, n in zip(hidden, frames.tolist(), strict=True)]
    batch = inject([prompt] * len(clips), llm.embed, audio, llm.placeholder_id)
    steps = list(llm.generate(batch.inputs_embeds, batch.attention_mask, called[Stage.LLM], spans=batch.spans))
    rows = [[id for step in steps if (id := step.ids[row]) is not None] for row in range(len(clips))]
    return rows, torch.stack([step.logits for step in steps], dim=1)


def theirs(
    model: WhisperForConditionalGeneration, clips: Sequence[torch.Tensor], **options: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, encoder states, ids (B, steps), scores (B, steps, V)."""
    extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    given = extractor([clip.numpy() for clip in clips], sampling_rate=RATE, return_tensors="pt")["input_features"]
    out = model.generate(
        given, max_new_tokens=TOKENS, do_sample=False, return_dict_in_generate=True, output_scores=True, **options
    )
    states = model.model.encoder(given).last_hidden_state
    return given, states, out.sequences, torch.stack(out.scores, dim=1)


@pytest.mark.parametrize("seconds", [[0.4], [3.3], [29.0], [0.7, 29.0, 8.2]], ids=["short", "phrase", "29 s", "batch"])
def test_features_states_logits_and_ids(stack: Stack, model: Any, seconds: list[float]) -> None:
    clips = [sound(length, seed) for seed, length in enumerate(seconds)]
    features, states, ids, scores = theirs(model, clips)
    own_features, own_states, _ = heard(stack, clips)
    assert torch.equal(own_features, features)
    torch.testing.assert_close(own_states, states, rtol=0, atol=1e-5)
    rows, logits = ours(stack, clips)
    torch.testing.assert_close(logits, scores, rtol=0, atol=1e-4)
    assert rows == ids[:, -TOKENS:].tolist()


def test_silence(stack: Stack, model: Any) -> None:
    clips = [torch.zeros(2 * RATE)]
    _, _, ids, _ = theirs(model, clips)
    assert ours(stack, clips)[0] == ids[:, -TOKENS:].tolist()


def test_times(stack: Stack, model: Any) -> None:
    clips = [sound(5.0)]
    extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    given = extractor([clips[0].numpy()], sampling_rate=RATE, return_tensors="pt")["input_features"]
    rows, _ = ours(stack, clips, timestamps=True)
    rules = WhisperTimeStampLogitsProcessor(model.generation_config, begin_index=1)
    ids = torch.tensor([[START]])
    for _ in range(TOKENS):  # generate() cuts the audio where a time ends a segment: one step after the other
        scores = model(given, decoder_input_ids=ids).logits[:, -1]
        scores[:, model.generation_config.suppress_tokens] = -torch.inf
        if ids.shape[1] == 1:
            scores[:, model.generation_config.begin_suppress_tokens] = -torch.inf
        ids = torch.cat([ids, rules(ids, scores).argmax(dim=-1, keepdim=True)], dim=1)
    assert rows == ids[:, 1:].tolist()
    assert rows[0][0] > NO_TIMES


def test_a_clip_of_its_own_length_does_not_depend_on_its_batch(stack: Stack) -> None:
    features = torch.randn(2, 80, 400, generator=torch.Generator().manual_seed(1))
    features[0, :, 150:] = 0
    encoder = stack.component(Stage.ENCODER)
    hidden, frames = encoder(features, torch.tensor([150, 400]))
    alone, _ = encoder(features[:1, :, :150], torch.tensor([150]))
    assert frames.tolist() == [75, 200]
    torch.testing.assert_close(hidden[0, :75], alone[0], rtol=0, atol=1e-5)


def test_a_run_tells_words_and_when(stack: Stack) -> None:
    done = list(stack.stream(Waveform(sound(4.0).numpy(), RATE, "sound"), details=True, max_new_tokens=6))[-1]
    (segment,) = done.result.trace.segments
    assert segment.attention is not None
    assert len(segment.frames) == 1500
    assert not segment.frames[0].nearest


def test_it_has_no_causal_lm_to_explore(whisper_folder: Path) -> None:
    hub = Hub()
    with pytest.raises(HubError, match="of a language model on this machine"):
        explore("structure", hub, hub.stack("whisper-tiny.en", weights={"whisper": whisper_folder}))
