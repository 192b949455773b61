"""The explorations' figures: from the configuration of canary-qwen-2.5b, and on nano against what runs there."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ORACLE, ROOT, SHARED
from safetensors.torch import load_file

import canary_hub
from canary_hub import Hub, HubError
from canary_hub.explore import EXPLORATIONS, explore, generation, injection, lora, structure
from canary_hub.explore import tensors as weights
from canary_hub.explore.injection import frames_of
from canary_hub.explore.prompt import RECORDED, RECORDED_PAD_ID
from canary_hub.explore.report import sections
from canary_hub.models.canary_qwen.checkpoint import BASE_LLM, CHECKPOINT
from canary_hub.models.canary_qwen.layout import llm_name, lora_names
from canary_hub.specs import Stage, WeightsRef

CANARY = "canary-qwen-2.5b"
NANO = ROOT / "canary_hub" / "models" / "nano"
SPEECH = ORACLE / "audio" / "speech.wav"  # 11 s
SHORT = ORACLE / "audio" / "slice1p3.wav"


@pytest.fixture(autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights are cached, and none may be fetched."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("no-cache")))

    def refuse(*given: object, **options: object) -> None:
        raise AssertionError("an exploration went online")

    monkeypatch.setattr("canary_hub.weights.checkpoint.snapshot", refuse)


def test_the_llm_of_canary_qwen(hub: Hub) -> None:
    found = structure.explore(hub, CANARY)
    assert (found.vocab_size, found.hidden_size, found.layers) == (151936, 2048, 28)
    assert (found.heads, found.kv_heads, found.head_dim, found.intermediate_size) == (16, 8, 128, 6144)
    assert found.tied
    assert found.qk_norm
    assert found.parameters == 1_720_574_976
    tree = {module.path: module for module in found.modules}
    assert (tree["model.embed_tokens"].kind, tree["model.embed_tokens"].shape) == ("Embedding", (151936, 2048))
    assert tree["lm_head"].tied_to == "model.embed_tokens"
    assert tree["lm_head"].parameters == 0
    layer = tree["model.layers.0-27"]
    assert layer.copies == 28
    assert tree["model.layers.0-27.self_attn.k_proj"].shape == (1024, 2048)
    assert tree["model.layers.0-27.self_attn.q_norm"].shape == (128,)
    # A block: q and o, k and v, three feed-forward matrices, two norms of a head and two of the layer.
    assert layer.parameters == 2 * 2048**2 + 2 * 1024 * 2048 + 3 * 6144 * 2048 + 2 * 128 + 2 * 2048
    assert found.parameters == 151936 * 2048 + 28 * layer.parameters + 2048
    assert sum(part.parameters for part in found.parts) == found.parameters
    assert "other" not in {part.name for part in found.parts}
    assert found.cache.bytes_per_token == 2 * 28 * 8 * 128 * 2 == 114_688
    assert found.cache.without_groups == 2 * found.cache.bytes_per_token


def test_the_kv_cache_is_as_large_as_said(hub: Hub) -> None:
    found = structure.explore(hub, "nano")
    with hub.load("nano", device="cpu") as stack:
        model = stack.component(Stage.LLM).model
        with torch.inference_mode():
            cache = model.model(input_ids=torch.arange(10)[None], use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert kept == 10 * found.cache.bytes_per_token
    assert found.parameters == stack.component(Stage.LLM).parameters


def test_the_adapter_of_canary_qwen(hub: Hub) -> None:
    found = lora.explore(hub, CANARY)
    assert (found.rank, found.alpha, found.scaling) == (128, 256, 2.0)
    assert found.total == 1_746_265_088  # 1.75B
    assert found.trainable == 28 * 128 * (2048 + 2048 + 2048 + 1024) == 25_690_112  # 25.7M
    assert round(100 * found.trainable / found.total, 2) == 1.47
    assert round(100 * found.frozen / found.total, 2) == 98.53
    assert {t.name: (t.before, t.a, t.b, t.layers) for t in found.targets} == {
        "q_proj": ((2048, 2048), (128, 2048), (2048, 128), 28),
        "v_proj": ((1024, 2048), (128, 2048), (1024, 128), 28),
    }
    assert (found.updates, found.proof, found.heard) == ((), None, ())
    assert "not on this machine" in found.limits[0]


def test_loaded_weights_are_base_plus_scaling_b_a(hub: Hub) -> None:
    found = lora.explore(hub, "nano", device="cpu")
    assert found.proof is not None
    assert found.proof.weights == 6
    assert found.proof.max_difference <= 4 * found.proof.rounding < 1e-5
    assert found.proof.max_update > 1000 * found.proof.max_difference
    file = load_file(NANO / "model.safetensors")
    for update in found.updates:
        a, b = (file[name].double() for name in lora_names(update.module))
        delta = found.scaling * b @ a
        expected = torch.linalg.svdvals(delta)[: found.rank]
        got = torch.tensor(update.singular_values, dtype=torch.float64)[: len(expected)]
        torch.testing.assert_close(got, expected, atol=2e-6, rtol=1e-6)
        assert update.norm == pytest.approx(float(delta.norm()))
        assert update.base_norm == pytest.approx(
            float(file[llm_name(f"{update.module}.weight", lora=True)].float().norm())
        )
        energy = expected.square()
        held = [float(energy[: update.rank_90 - less].sum() / energy.sum()) for less in (0, 1)]
        assert held[0] >= 0.9 > held[1]


@pytest.mark.parametrize(("llm", "dtype"), [("canary/qwen3", "bfloat16"), ("canary/qwen3-peft", "float32")])
def test_the_proof_holds_rounded_and_live(hub: Hub, llm: str, dtype: str) -> None:
    spec = hub.stack("nano", components={Stage.LLM: llm})
    proof = lora.explore(hub, spec, dtype=dtype, device="cpu").proof
    assert proof is not None
    assert proof.dtype == dtype
    assert 0 < proof.max_difference <= 4 * proof.rounding
    assert proof.max_difference < 0.1 * proof.max_update


def test_the_proof_sees_a_wrong_weight(hub: Hub) -> None:
    own = Hub(allow=())
    with own.load("nano", device="cpu") as stack:
        with torch.inference_mode():
            stack.component(Stage.LLM).model.model.layers[1].self_attn.v_proj.weight[3, 5] += 0.25
        proof = lora.explore(own, "nano", device="cpu").proof
    assert proof is not None
    assert proof.max_difference == pytest.approx(0.25, abs=1e-3)


def test_the_effect_of_the_adapter(hub: Hub) -> None:
    found = lora.explore(hub, "nano", audio=SHORT, device="cpu")
    assert [heard.adapter for heard in found.heard] == [False, True]
    with hub.load("nano", device="cpu") as stack:
        for heard in found.heard:
            result = stack.transcribe(SHORT, adapter=heard.adapter)
            assert heard.text == result.text
            assert heard.confidence == pytest.approx(result.segments[0].confidence)
    assert found.heard[0].confidence != found.heard[1].confidence
    assert all(h.first[0].probability >= h.first[1].probability for h in found.heard)


def test_without_lora_it_is_said(hub: Hub, tmp_path: Path) -> None:
    config = json.loads((NANO / "config.json").read_text())
    del config["lora"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(HubError, match="no LoRA section"):
        lora.explore(hub, hub.stack("nano", weights={CHECKPOINT: tmp_path}))


def test_the_checkpoint_of_canary_qwen(hub: Hub) -> None:
    found = weights.explore(hub, CANARY)
    groups = {(group.name, group.depth): group.tensors for group in found.groups}
    assert groups[("llm", 0)] == 421
    assert (groups[("base", 1)], groups[("LoRA", 1)]) == (309, 112)
    assert groups[("perception", 0)] == 1296
    assert groups[("embed_tokens", 0)] == 1
    assert found.tensors == 1718
    assert found.dtypes == {"BF16": 1686, "I64": 32}
    assert found.tied == (("lm_head.weight", "embed_tokens.weight"),)
    assert not found.files
    assert "no file was read" in found.limits[0]
    assert all(kind.module for kind in found.kinds)
    mapped = {kind.pattern: kind.module for kind in found.kinds}
    assert mapped["llm.base_model.model.model.layers.N.self_attn.q_proj.base_layer.weight"] == (
        "model.layers.N.self_attn.q_proj.weight"
    )
    assert mapped["perception.encoder.pre_encode.conv.2.weight"] == "subsampling.layers.2.weight"


def test_the_kinds_are_those_of_the_published_file(hub: Hub) -> None:
    listing = SHARED / "oracle" / "checkpoint_keys.txt"
    if not listing.is_file():
        pytest.skip("the listing of the published file is not here")
    published = set()
    for line in listing.read_text().splitlines()[1:]:
        n, dtype, rest = line.split(maxsplit=2)
        shape, _, pattern = rest.rpartition(" ")
        published.add((int(n), dtype, tuple(json.loads(shape)), pattern))
    found = weights.explore(hub, CANARY)
    assert {(kind.count, kind.dtype, kind.shape, kind.pattern) for kind in found.kinds} == published


def test_every_tensor_goes_where_it_is_said(hub: Hub) -> None:
    found = weights.explore(hub, "nano")
    assert (found.missing, found.unused, found.reshaped) == ((), (), ())
    file = load_file(NANO / "model.safetensors")
    assert found.nbytes == sum(tensor.nbytes for tensor in file.values())
    with hub.load("nano", device="cpu") as stack:
        stack.transcribe(SPEECH, adapter=False)  # leaves the base weights in place
        extractor = stack.component(Stage.PREPROCESSOR).extractor
        modules = {
            "preprocessor": {"mel_filters": extractor.mel_filters[None], "window": extractor.window},
            "encoder": stack.component(Stage.ENCODER).module.state_dict(),
            "projector": stack.component(Stage.PROJECTOR).module.state_dict(),
            "llm": stack.component(Stage.LLM).model.state_dict(),
        }
        for kind in found.kinds:
            if "+=" in kind.module:
                assert ".lora_" in kind.pattern
                continue
            for layer in ("0", "2"):
                loaded = modules[kind.stage][
                    kind.module.replace(".N.", f".{layer}.").replace("layers.N.", f"layers.{layer}.")
                ]
                read = file[kind.pattern.replace("layers.N.", f"layers.{layer}.")]
                assert torch.equal(loaded.to(read.dtype), read), kind
        stack.transcribe(SPEECH, adapter=True)


def test_the_recorded_prompt_is_the_tokenizers(hub: Hub) -> None:
    real = SHARED / "oracle" / "qwen3-tokenizer"
    if not real.is_dir():
        pytest.skip("Qwen3's tokenizer is too large to ship")
    by_tokenizer = injection.explore(hub, hub.stack(CANARY, weights={BASE_LLM: real}), audio=SPEECH)
    recorded = injection.explore(hub, CANARY, audio=SPEECH)
    assert by_tokenizer.prompt_source == "the stack's tokenizer"
    assert recorded.prompt == by_tokenizer.prompt
    assert recorded.batch == by_tokenizer.batch
    assert generation.explore(hub, hub.stack(CANARY, weights={BASE_LLM: real})).pad_id == RECORDED_PAD_ID


def test_injection_of_canary_qwen(hub: Hub) -> None:
    found = injection.explore(hub, CANARY, audio=SPEECH)  # 11 s
    assert [(token.id, token.piece) for token in found.prompt] == list(RECORDED)
    assert (found.placeholder_id, found.place, len(found.prompt)) == (151669, 9, 15)
    assert found.alone is not None
    assert (found.alone.before, found.alone.after, found.frames) == (9, 5, 138)
    assert len(found.alone.mask) == 14 + 138
    assert found.frame_ms == pytest.approx(80)
    assert (found.text_changed, found.audio_changed) == (None, None)
    assert any("record" in limit for limit in found.limits)


def test_another_wording_has_no_ids_without_the_tokenizer(hub: Hub) -> None:
    found = injection.explore(hub, hub.stack(CANARY, options={"before": "Write: "}))
    assert found.alone is None
    assert {token.id for token in found.prompt} == {None}
    assert [token.piece for token in found.prompt if token.slot] == ["<|audioplaceholder|>"]
    assert any("tokenizer" in limit for limit in found.limits)


def test_frames_follow_from_the_configuration() -> None:
    config = json.loads((ORACLE / "checkpoint" / "config.json").read_text())
    manifest = json.loads((ORACLE / "golden" / "manifest.json").read_text())
    compared = 0
    for name, case in manifest["cases"].items():
        if not case.get("audio") or "prompts" not in case:
            continue
        lengths = load_file(ORACLE / "golden" / f"{name}.safetensors").get("enc_len")
        for clip, n in zip(case["audio"], [] if lengths is None else lengths.tolist(), strict=False):
            with wave.open(str(ORACLE / "audio" / f"{clip}.wav")) as file:
                assert frames_of(config, file.getnframes()) == n, clip
            compared += 1
    assert compared >= 10


def test_injection_on_nano_is_what_a_run_does(hub: Hub) -> None:
    found = injection.explore(hub, "nano", audio=SPEECH, device="cpu")
    assert (found.text_changed, found.audio_changed) == (0.0, 0.0)
    assert found.alone is not None
    first, *shorter = found.batch
    assert first == found.alone
    assert len({len(row.mask) for row in found.batch}) == 1
    for row in shorter:
        assert row.padding > 0
        assert row.mask == (0,) * row.padding + (1,) * (row.before + row.frames + row.after)
    with hub.load("nano", device="cpu") as stack:
        trace = stack.transcribe(SHORT, details=True).trace.segments[0]
        found = injection.explore(hub, "nano", audio=SHORT, device="cpu")
    assert found.prompt == trace.prompt
    norms = [position.norm for position in found.positions if position.kind == "audio"]
    assert norms == pytest.approx([frame.norm for frame in trace.frames], abs=1e-3)


def test_a_clip_longer_than_the_window_is_cut_and_said(hub: Hub) -> None:
    spec = hub.stack("nano", options={"max_new_tokens": 4})
    for name in ("lora", "injection", "generation"):
        found = explore(name, hub, spec, audio=SPEECH, device="cpu")
        assert found.limits == ("speech.wav lasts 11 s: its first 8 s are explored.",)


def test_generation_on_nano_is_what_a_run_writes(hub: Hub) -> None:
    found = generation.explore(hub, "nano", audio=SHORT, device="cpu")
    with hub.load("nano", device="cpu") as stack:
        result = stack.transcribe(SHORT, details=True)
        off = stack.transcribe(SHORT, adapter=False)
        drawn = stack.transcribe(SHORT, temperature=1.5, seed=1)
        traced = result.trace.segments[0]
        eos_ids = stack.component(Stage.LLM).eos_ids
    assert [(t.id, t.piece) for t in found.written] == [(t.id, t.piece) for t in traced.tokens]
    assert [t.probability for t in found.written] == pytest.approx([t.probability for t in traced.tokens], abs=1e-4)
    assert len(found.ms) == len(found.written)
    assert min(found.ms) > 0
    assert found.positions == len(traced.prompt) - 1 + len(traced.frames)
    runs = {run.title: run for run in found.runs}
    assert (runs["greedy"].text, runs["greedy"].ended) == (result.text, "end token")
    assert found.written[-1].id in eos_ids
    assert runs["adapter off"].text == off.text
    assert runs["drawn, temperature 1.5, seed 1"].text == drawn.text
    one = runs["at most 1 token"]
    assert (one.tokens, one.ended, one.as_greedy) == (1, "limit", 1)
    for run in found.runs:
        assert run.as_greedy <= min(run.tokens, runs["greedy"].tokens)


def test_two_ways_to_generate(hub: Hub, tiny_spec) -> None:
    ways = generation.explore(hub, tiny_spec, device="cpu", dtype="float32").two_ways
    assert ways is not None
    assert ways.same
    assert 1 < ways.from_embeds <= generation.BOTH_WAYS_TOKENS
    assert ways.from_ids == ways.prompt_tokens + ways.from_embeds


def test_generation_of_canary_qwen(hub: Hub) -> None:
    found = generation.explore(hub, CANARY)
    assert (found.settings["max_new_tokens"], found.settings["temperature"]) == (448, 0.0)
    assert (found.eos_ids, found.pad_id, found.prompt_tokens) == ((151645,), 151643, 15)
    assert found.bytes_per_token == 2 * 1_720_574_976
    assert (found.written, found.runs) == ((), ())
    assert found.limits


@pytest.mark.parametrize("clip", ["batch3", "slice1p3", "two_audios"])
def test_inject_audio_embeddings_equals_nemo(clip: str) -> None:
    golden = load_file(ORACLE / "golden" / f"{clip}.safetensors")
    table = load_file(ORACLE / "checkpoint" / "model.safetensors")["embed_tokens.weight"].float()
    ids = golden["prompt_ids"].long()
    placeholder = int(ids.max())  # the last id of that vocabulary
    lengths = golden["enc_len"].tolist()
    audio = [row[:n] for row, n in zip(golden["perception"].float(), lengths, strict=True)]
    text = table[torch.where(ids == placeholder, 0, ids)]
    embeds, mask = canary_hub.inject_audio_embeddings(ids, text, audio, placeholder)
    torch.testing.assert_close(embeds, golden["inputs_embeds"].float(), atol=1e-6, rtol=0)
    assert torch.equal(mask.long(), golden["attention_mask"].long())


def test_inject_audio_embeddings_of_equal_clips() -> None:
    ids = torch.tensor([[1, 9, 2, 3], [4, 5, 9, 6]])
    text = torch.randn(2, 4, 8, requires_grad=True)
    audio = torch.randn(2, 5, 8, requires_grad=True)
    embeds, mask = canary_hub.inject_audio_embeddings(ids, text, audio, placeholder_id=9)
    assert embeds.shape == (2, 4 - 1 + 5, 8)
    assert mask.all()
    assert torch.equal(embeds[0], torch.cat([text[0, :1], audio[0], text[0, 2:]]))
    assert torch.equal(embeds[1], torch.cat([text[1, :2], audio[1], text[1, 3:]]))
    embeds.sum().backward()
    assert torch.equal(audio.grad, torch.ones_like(audio))
    assert text.grad.sum(-1).tolist() == [[8, 0, 8, 8], [8, 8, 0, 8]]


@pytest.mark.parametrize(
    ("ids", "text", "audio", "message"),
    [
        ((1, 3), (1, 4, 8), (1, 2, 8), "do not fit together"),
        ((3,), (3, 8), (1, 2, 8), "do not fit together"),
        ((1, 3), (1, 3, 8), (1, 2, 6), "do not fit text embeddings of size 8"),
        ((1, 3), (1, 3, 8), (2, 2, 8), "for 2 audio"),
    ],
)
def test_inject_audio_embeddings_refuses(ids, text, audio, message: str) -> None:
    given = torch.zeros(ids, dtype=torch.long)
    given[..., -1] = 7
    with pytest.raises(HubError, match=message):
        canary_hub.inject_audio_embeddings(given, torch.zeros(text), torch.zeros(audio), 7)


def test_unknown_exploration(hub: Hub) -> None:
    with pytest.raises(HubError, match="no exploration 'bert'"):
        explore("bert", hub, "nano")
    assert list(EXPLORATIONS) == ["structure", "lora", "weights", "injection", "generation"]


OTHER_LLM = """
from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Port, Stage


class Countdown:
    placeholder_id = -1
    eos_ids = (0,)

    def tokenize(self, segments):
        return [len(piece.text) if hasattr(piece, "text") else self.placeholder_id for piece in segments]

    def embed(self, ids):
        return ids[..., None].float().expand(*ids.shape, 128)

    def generate(self, inputs_embeds, attention_mask, options, stop=None):
        import torch
        from canary_hub.stages import Step

        for id in (2, 1, 0):
            yield Step((id,), (-0.5,), torch.eye(4)[id][None])

    def decode(self, ids):
        return " ".join(map(str, ids))


def build(build):
    return Countdown()


@hookimpl
def canary_components():
    accepts = (Port("embeds", dim=128), Port("prompt"))
    contract = Contract(accepts, (Port("text"),))
    return [ComponentSpec(Stage.LLM, "other/countdown", f"{__name__}:build", contract)]
"""


def test_an_llm_of_another_kind_shows_what_it_can(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER_LLM)
    own = Hub(tmp_path)
    spec = own.stack("nano", components={Stage.LLM: "other/countdown"})
    found = injection.explore(own, spec, audio=SHORT)
    assert (found.place, found.frames, found.placeholder_id, found.vocab_size) == (3, 17, -1, None)
    assert (found.text_changed, found.audio_changed) == (0.0, 0.0)
    written = generation.explore(own, spec, audio=SHORT)
    assert [token.id for token in written.written] == [2, 1, 0]
    assert [(run.title, run.ended) for run in written.runs] == [("greedy", "end token")]
    assert written.two_ways is None
    for refused in (structure, lora, weights):
        with pytest.raises(HubError, match=r"other/countdown|no checkpoint in the layout"):
            refused.explore(own, spec)
    for shown in (found, written):
        assert sections(shown)


def test_an_answer_that_repeats_itself_is_ended_by_the_runs_own_guard(tmp_path: Path) -> None:
    step = "yield Step((id,), (-0.5,), torch.eye(4)[id][None])"
    stops = "\n            written.append(id)\n            if stop(0, written):\n                return"
    stuck = OTHER_LLM.replace("for id in (2, 1, 0):", "written = []\n        for id in [1] * 400:")
    stuck = stuck.replace(step, step + stops)
    (tmp_path / "other.py").write_text(stuck)
    own = Hub(tmp_path)
    found = generation.explore(own, own.stack("nano", components={Stage.LLM: "other/countdown"}), audio=SHORT)
    (run,) = found.runs
    assert (run.ended, run.tokens) == ("repetition", found.repeated_tokens)
    assert len(found.ms) == len(found.written) < run.tokens
    assert sections(found)


def test_a_silent_clip_is_not_written_down(hub: Hub) -> None:
    with pytest.raises(HubError, match="gives nothing to write: silence"):
        generation.explore(hub, "nano", audio=(16000, np.zeros(16000, np.float32)), device="cpu")


def test_a_configuration_elsewhere_is_not_fetched(hub: Hub) -> None:
    elsewhere = {role: WeightsRef(repo="somebody/something") for role in (CHECKPOINT, BASE_LLM)}
    spec = hub.stack(CANARY, weights=elsewhere)
    with pytest.raises(HubError, match="on this machine"):
        structure.explore(hub, spec)
    with pytest.raises(HubError, match="no LoRA section"):
        lora.explore(hub, spec)
    for other in (injection, generation):
        with pytest.raises(HubError, match="needs its weights"):
            other.explore(hub, spec)
