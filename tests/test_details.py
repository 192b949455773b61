"""The injection details: true counts, true probabilities, a trace that is plain data."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from canary_hub import Done, Hub
from canary_hub.pipeline import Stack
from canary_hub.run.pool import Entry
from canary_hub.run.result import SegmentTrace, Trace
from canary_hub.run.timing import choose_heads, monotone_path, onsets, words_of
from canary_hub.specs import StackSpec, Stage


@pytest.fixture(scope="module")
def stack(hub: Hub, tiny_spec: StackSpec) -> Stack:
    return hub.load(tiny_spec, dtype="float32", device="cpu")


def details(stack: Stack, source: Path, **options: object) -> Trace:
    done = [e for e in stack.stream(source, details=True, **options) if isinstance(e, Done)][-1]
    assert done.result.trace is not None
    return done.result.trace


@pytest.fixture(scope="module")
def segment(stack: Stack, oracle: Path) -> SegmentTrace:
    return details(stack, oracle / "audio" / "b0.wav").segments[0]


def test_counts_are_those_of_the_injection(segment: SegmentTrace) -> None:
    assert [t.slot for t in segment.prompt].count(True) == 1
    assert segment.counts == "10 text + 1 placeholder + 8 text = 19 tokens -> 10 + 39 + 8 = 57 embeddings"
    assert "".join(t.piece for t in segment.prompt).startswith("<|im_start|>user\nTranscribe the following: <|audio")


def test_probabilities_equal_one_forward_pass(stack: Stack, segment: SegmentTrace, oracle: Path) -> None:
    llm = stack.component(Stage.LLM)
    wave = torch.from_numpy(stack.load_audio(oracle / "audio" / "b0.wav").samples)[None]
    x, n = stack.component(Stage.PREPROCESSOR)(wave, torch.tensor([wave.shape[1]]))
    x, n = stack.component(Stage.PROJECTOR)(*stack.component(Stage.ENCODER)(x, n))
    prompt = [t.id for t in segment.prompt]
    at = prompt.index(llm.placeholder_id)
    written = [t.id for t in segment.tokens]
    embeds = torch.cat(
        [llm.embed(torch.tensor(prompt[:at])), x[0, : n[0]], llm.embed(torch.tensor(prompt[at + 1 :] + written))]
    )
    with torch.inference_mode():
        logits = llm.model(inputs_embeds=embeds[None]).logits[0, -len(written) - 1 : -1].float()
    p = logits.softmax(-1)
    for i, token in enumerate(segment.tokens):
        assert token.probability == pytest.approx(p[i, token.id].item(), abs=2e-4)
        entropy = -(p[i] * p[i].log2()).sum().item()
        assert token.entropy == pytest.approx(entropy, abs=5e-3)
        others = [j for j in p[i].topk(6).indices.tolist() if j != token.id][:5]
        assert [a.id for a in token.alternatives] == others
        for alternative in token.alternatives:
            assert alternative.probability == pytest.approx(p[i, alternative.id].item(), abs=2e-4)


def test_attention_equals_transformers_eager_attention(stack: Stack, segment: SegmentTrace) -> None:
    llm = stack.component(Stage.LLM)
    options = stack.options[Stage.LLM]
    embeds = torch.randn(2, 21, 64, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 21, dtype=torch.bool)
    mask[1, :6] = False
    steps = list(llm.generate(embeds, mask, options.model_copy(update={"max_new_tokens": 4}), attention=True))
    got = torch.stack([step.attention[0] for step in steps], dim=1)
    short = torch.stack([step.attention[1] for step in steps], dim=1)
    assert not short[..., :6].any()
    assert all(step.attention is None for step in llm.generate(embeds, mask, options))
    ids = [step.ids[0] for step in steps]
    whole = torch.cat([embeds[:1], llm.embed(torch.tensor([ids[:-1]]))], dim=1)
    config = llm.model.config
    before = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        with torch.inference_mode():
            out = llm.model.model(inputs_embeds=whole, output_attentions=True)
    finally:
        config._attn_implementation = before
    expected = torch.cat([layer[0, :, 20:, :21] for layer in out.attentions])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(short[..., 6:].sum(-1)[:, 0], torch.ones(len(short)), atol=1e-5, rtol=0)


def test_nearest_tokens_are_the_closest_by_cosine(stack: Stack) -> None:
    llm = stack.component(Stage.LLM)
    table = llm.model.model.embed_tokens.weight
    ids, cosines = llm.nearest(table[[7, 300]] * 3.0, 3)
    assert ids[:, 0].tolist() == [7, 300]
    assert cosines[:, 0].tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
    assert (cosines.diff(dim=1) <= 0).all()


def test_the_trace_is_plain_json(stack: Stack, oracle: Path) -> None:
    trace = details(stack, oracle / "audio" / "slice1p3.wav")
    data = json.loads(json.dumps(trace.to_json()))
    assert data["version"] == 1
    assert data["components"]["encoder"] == "canary/fastconformer"
    assert data["parameters"]["projector"] == 64 * 64 + 64
    assert data["nbytes"]["projector"] == 4 * (64 * 64 + 64)
    assert [s["stage"] for s in data["stages"]] == [s.value for s in Stage]
    (segment,) = data["segments"]
    assert len(segment["frames"]) == 17
    assert len(segment["frames"][0]["nearest"]) == 5
    assert len(segment["attention"]) == len(segment["tokens"]) == 4
    assert len(segment["attention"][0]) == 17
    assert np.array(segment["log_mel"]).shape == (32, 130)


def test_off_records_nothing_and_writes_the_same(stack: Stack, oracle: Path, monkeypatch) -> None:
    llm = stack.component(Stage.LLM)
    on = [t.id for t in details(stack, oracle / "audio" / "b1.wav").segments[0].tokens]
    monkeypatch.setattr("canary_hub.pipeline.observe", None)
    monkeypatch.setattr(llm, "nearest", None)
    result = stack.transcribe(oracle / "audio" / "b1.wav")
    assert result.trace is None
    assert result.text == llm.decode(on).strip()


def test_batches_have_a_trace_per_segment(hub: Hub, tiny_spec: StackSpec, oracle: Path) -> None:
    from dataclasses import replace

    short = hub.load(replace(tiny_spec, window_seconds=4.0), dtype="float32", device="cpu")
    trace = details(short, oracle / "audio" / "speech.wav", max_new_tokens=3)
    assert len(trace.segments) >= 3
    assert [s.end for s in trace.segments[:-1]] == [s.start for s in trace.segments[1:]]
    for segment in trace.segments:
        assert len(segment.frames) * segment.frame_seconds == pytest.approx(segment.end - segment.start)


def test_a_path_never_goes_back_and_is_the_best() -> None:
    gain = np.random.default_rng(0).normal(size=(4, 7))
    path = monotone_path(gain)
    assert path == sorted(path)
    every = itertools.combinations_with_replacement(range(7), 4)
    best = max(every, key=lambda p: sum(gain[i, j] for i, j in enumerate(p)))
    assert path == list(best)


def test_words_begin_where_the_sound_rises() -> None:
    loudness = np.full(300, -3.0)
    for start in (50, 120, 230):
        loudness[start : start + 40] = 1.0
    starts = onsets([0.7, 1.45, 2.5], loudness, rate=100.0)
    assert starts == pytest.approx([0.5, 1.2, 2.3], abs=0.03)


def test_heads_that_follow_the_audio_are_chosen() -> None:
    rng = np.random.default_rng(0)
    attention = rng.uniform(size=(6, 8, 30)).astype(np.float32)
    for token in range(8):
        attention[4, token, 3 * token : 3 * token + 3] += 40
    attention /= attention.sum(-1, keepdims=True)
    assert choose_heads(attention, 1) == [4]


def test_tokens_are_joined_to_words() -> None:
    assert words_of(["se", "ven", " o", "h", " ", "two"]) == [("seven", 0, 2), ("oh", 2, 4), ("two", 5, 6)]
    assert words_of([]) == []


def test_a_torch_module_as_a_component_counts_its_parameters() -> None:
    assert Entry("key", torch.nn.Linear(3, 2)).parameters == 8
    assert Entry("key", object()).parameters == 0
