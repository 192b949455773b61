"""The components that can be swapped in: each keeps its contract, and does what its title says.

Conformance is checked on random weights (the oracle's), what is heard on stack nano.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import ORACLE, SHARED
from torch.nn.utils.rnn import pad_sequence

from canary_hub import Hub
from canary_hub.audio.waveform import Waveform
from canary_hub.errors import OptionError, WeightsError
from canary_hub.models.canary_qwen.log_mel_denoised import spectral_gate
from canary_hub.models.canary_qwen.options import MAX_TERM, MAX_TERMS, DenoiseLogMelBuild
from canary_hub.models.canary_qwen.plugin import canary_components
from canary_hub.models.causal_lm.chat_tokenizer import ChatTokenizer
from canary_hub.options import validate
from canary_hub.specs import ComponentSpec, Contract, StackSpec, Stage
from canary_hub.stages import AudioSlot, Build, Text
from canary_hub.weights.checkpoint import Checkpoint

RATE = 16000
SLOT = "<|audioplaceholder|>"
REAL = SHARED / "oracle" / "qwen3-tokenizer"
STRENGTH = DenoiseLogMelBuild().strength
DIGITS = Path(__file__).parents[2] / "digits"
SPECS = {spec.id: spec for spec in canary_components()}


def of(stage: Stage) -> list[str]:
    return [spec.id for spec in SPECS.values() if spec.stage is stage]


def clip(name: str) -> torch.Tensor:
    return torch.from_numpy(soundfile.read(ORACLE / "audio" / f"{name}.wav", dtype="float32")[0])


def digits(words: str) -> torch.Tensor:
    """Spoken digits, 0.2 s apart."""
    pause = np.zeros(RATE // 5, np.float32)
    parts = [pause]
    for word in words.split():
        parts += [soundfile.read(DIGITS / f"{word}.flac", dtype="float32")[0], pause]
    return torch.from_numpy(np.concatenate(parts))


def build_of(spec: StackSpec, part: ComponentSpec, **options: object) -> Build:
    weights = {role: Checkpoint(spec.weights[role], []) for role in part.weights}
    return Build(part.build_options(**options), weights)


def imported(target: str):
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def built(spec: StackSpec, id: str, **options: object):
    """The component itself and its contract, over the oracle's weights."""
    build = build_of(spec, SPECS[id], **options)
    contract = SPECS[id].contract(build)
    assert isinstance(contract, Contract)
    return imported(SPECS[id].factory)(build), contract


# Every component


@pytest.mark.parametrize("id", SPECS)
def test_says_what_it_is_for(id: str) -> None:
    assert 20 < len(SPECS[id].title) <= 130
    for model in (SPECS[id].build_options, SPECS[id].call_options):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize("id", of(Stage.PREPROCESSOR))
def test_preprocessor_keeps_its_contract(tiny_spec: StackSpec, id: str) -> None:
    component, contract = built(tiny_spec, id)
    (audio,), (features,) = contract.accepts, contract.produces
    clips = [clip(name) for name in ("b0", "b1", "b2")]
    lengths = torch.tensor([len(c) for c in clips])
    out, frames = component(pad_sequence(clips, batch_first=True), lengths)
    assert (out.dtype, out.shape[0], out.shape[1]) == (torch.float32, 3, features.dim)
    assert frames.dtype == torch.int64
    assert frames.tolist() == [int(n * features.rate_hz / audio.rate_hz) for n in lengths.tolist()]
    for i, wav in enumerate(clips):
        alone, n = component(wav[None], torch.tensor([len(wav)]))
        assert n.tolist() == [frames[i]]
        torch.testing.assert_close(out[i, :, : n[0]], alone[0, :, : n[0]], atol=1e-3, rtol=0)
        assert not out[i, :, n[0] :].any()
    assert component.nbytes > 0


@pytest.mark.parametrize("id", of(Stage.PREPROCESSOR))
@pytest.mark.parametrize("samples", [1, 100, 170, 500])
def test_preprocessor_survives_tiny_clips(tiny_spec: StackSpec, id: str, samples: int) -> None:
    component, _ = built(tiny_spec, id)
    wav = torch.randn(2, 800, generator=torch.Generator().manual_seed(0))
    out, frames = component(wav, torch.tensor([samples, 800]))
    assert frames.tolist() == [samples // 160, 5]
    assert out.isfinite().all()
    assert not out[0, :, samples // 160 :].any()


@pytest.mark.parametrize("id", of(Stage.PROJECTOR))
def test_projector_keeps_its_contract(tiny_spec: StackSpec, id: str) -> None:
    component, contract = built(tiny_spec, id)
    (hidden,), (embeds,) = contract.accepts, contract.produces
    batch, lengths = torch.randn(2, 7, hidden.dim), torch.tensor([7, 3])
    out, frames = component(batch, lengths)
    assert out.shape == (2, 7 * embeds.rate_hz / hidden.rate_hz, embeds.dim)
    assert frames.tolist() == [7, 3]
    alone, _ = component(batch[1:, :3], torch.tensor([3]))
    torch.testing.assert_close(out[1:, :3], alone)
    assert component.nbytes > 0
    assert component.parameters == embeds.dim * (hidden.dim + 1)


@pytest.mark.parametrize("id", of(Stage.PROMPT_TEMPLATE))
def test_prompt_holds_the_placeholder_of_its_contract(tiny_spec: StackSpec, id: str) -> None:
    component, contract = built(tiny_spec, id)
    pieces = component.render(SPECS[id].call_options())
    assert pieces.count(AudioSlot()) == 1
    (prompt,) = contract.produces
    tiny = ChatTokenizer(ORACLE / "llm" / "tokenizer.json", ORACLE / "llm" / "tokenizer_config.json", prompt.token)
    assert tiny.encode(pieces).count(tiny.placeholder_id) == 1


@pytest.mark.parametrize("id", [id for id in SPECS if SPECS[id].stage in (
    Stage.PREPROCESSOR, Stage.PROJECTOR, Stage.PROMPT_TEMPLATE)])  # fmt: skip
def test_runs_in_a_stack(hub: Hub, tiny_spec: StackSpec, id: str) -> None:
    with hub.load(tiny_spec, components={SPECS[id].stage: id}, device="cpu") as stack:
        result = stack.transcribe(Waveform(clip("slice1p3").numpy(), RATE, "slice"), max_new_tokens=3)
    assert result.segments[0].tokens == 3


# librosa/log-mel


def test_librosa_and_the_checkpoint_have_the_same_buffers(tiny_spec: StackSpec) -> None:
    ours, _ = built(tiny_spec, "librosa/log-mel")
    theirs, _ = built(tiny_spec, "canary/log-mel")
    assert np.array_equal(ours.mel, theirs.extractor.mel_filters.numpy())
    assert np.array_equal(ours.window, theirs.extractor.window.numpy())


def test_librosa_gives_the_same_features(tiny_spec: StackSpec) -> None:
    """To 1e-3 where features have a standard deviation of 1; a float32 window is off by 0.4 and more."""
    ours, _ = built(tiny_spec, "librosa/log-mel")
    theirs, _ = built(tiny_spec, "canary/log-mel")
    for wav in (clip("speech"), clip("slice0p2"), clip("mult1280"), clip("long34"), digits("three one four")):
        features, frames = ours(wav[None], torch.tensor([len(wav)]))
        expected, n = theirs(wav[None], torch.tensor([len(wav)]))
        assert frames.equal(n)
        torch.testing.assert_close(features, expected, atol=1e-3, rtol=0)


def test_librosa_hears_the_same_and_is_not_warned_of(hub: Hub) -> None:
    swapped = {Stage.PREPROCESSOR: "librosa/log-mel"}
    with hub.load("nano", device="cpu") as plain, hub.load("nano", components=swapped, device="cpu") as stack:
        assert stack.warnings == ()
        for words in ("three one four", "two seven eight"):
            wave = Waveform(digits(words).numpy(), RATE, words)
            assert stack.transcribe(wave).text == plain.transcribe(wave).text == words


def test_librosa_refuses_what_it_does_not_compute(tiny_spec: StackSpec) -> None:
    build = build_of(tiny_spec, SPECS["librosa/log-mel"])
    build.weights["canary"].config["perception"]["preprocessor"]["normalize"] = "all_features"
    with pytest.raises(WeightsError, match=r"librosa/log-mel computes 'per_feature' only"):
        imported(SPECS["librosa/log-mel"].factory)(build)


# canary/denoise-log-mel


def noisy(clean: torch.Tensor, kind: str, snr: float) -> torch.Tensor:
    """`clean` and noise, `snr` dB below it."""
    rng = np.random.default_rng(3)
    samples = rng.normal(size=len(clean))
    if kind == "fan":  # low rumble and a hum
        spectrum = np.fft.rfft(samples) / (1 + np.fft.rfftfreq(len(clean), 1 / RATE) / 200)
        samples = np.fft.irfft(spectrum, len(clean))
        samples = samples / samples.std() + np.sin(2 * np.pi * 120 * np.arange(len(clean)) / RATE)
    noise = torch.from_numpy(samples).float()
    return clean + noise * (clean.square().mean() / noise.square().mean()).sqrt() / 10 ** (snr / 20)


def snr(clean: torch.Tensor, heard: torch.Tensor) -> float:
    return float(10 * torch.log10(clean.square().sum() / (heard - clean).square().sum()))


@pytest.mark.parametrize(("kind", "before"), [("white", 0.0), ("white", 10.0), ("fan", 0.0), ("fan", 10.0)])
def test_gate_takes_noise_out(kind: str, before: float) -> None:
    clean = digits("nine two six four")
    heard = noisy(clean, kind, before)
    assert snr(clean, heard) == pytest.approx(before, abs=0.1)
    assert snr(clean, spectral_gate(heard, STRENGTH)) > before + 4


def test_gate_leaves_a_quiet_room_nearly_as_it_is() -> None:
    clean = digits("nine two six four")
    assert snr(clean, spectral_gate(noisy(clean, "white", 50.0), STRENGTH)) > 30


def test_gate_muffles_noise_without_speech() -> None:
    noise = noisy(torch.ones(3 * RATE), "white", 0.0) - 1
    left = spectral_gate(noise, STRENGTH)
    most = (1 - STRENGTH) ** 2
    assert most < left.square().mean() / noise.square().mean() < 1.3 * most
    assert spectral_gate(torch.zeros(RATE), STRENGTH).equal(torch.zeros(RATE))


def test_denoise_is_log_mel_of_the_gated_audio(tiny_spec: StackSpec) -> None:
    plain, _ = built(tiny_spec, "canary/log-mel")
    off, contract = built(tiny_spec, "canary/denoise-log-mel", strength=0.0)
    wav = noisy(digits("five"), "white", 5.0)[None]
    n = torch.tensor([wav.shape[1]])
    assert off(wav, n)[0].equal(plain(wav, n)[0])
    assert contract == SPECS["canary/log-mel"].contract(build_of(tiny_spec, SPECS["canary/log-mel"]))
    given = wav.clone()
    on, contract = built(tiny_spec, "canary/denoise-log-mel")
    assert on(wav, n)[0].equal(plain(spectral_gate(wav[0], on.strength)[None], n)[0])
    assert wav.equal(given)
    assert contract.produces[0].tag.endswith("denoised")


def test_denoise_and_scaled_are_warned_of(hub: Hub) -> None:
    swapped = {Stage.PREPROCESSOR: "canary/denoise-log-mel", Stage.PROJECTOR: "canary/scaled"}
    fit = hub.check(hub.stack("nano", components=swapped, options={"factor": 0.5}))
    assert not fit.problems
    assert ["audio denoised" in fit.warnings[0], "times 0.5" in fit.warnings[1]] == [True, True]
    assert all(warning.endswith("not trained together") for warning in fit.warnings)
    neutral = hub.stack("nano", components=swapped, options={"factor": 1.0, "strength": 0.0})
    assert hub.check(neutral).warnings == ()


# Prompt templates

OPTIONS = [(id, name) for id in of(Stage.PROMPT_TEMPLATE) for name in SPECS[id].call_options.model_fields]


def rendered(id: str, **options: object) -> list[Text | AudioSlot]:
    return imported(SPECS[id].factory)(None).render(SPECS[id].call_options(**options))


def plain(id: str, **options: object) -> str:
    """A prompt written out."""
    return "".join(SLOT if isinstance(piece, AudioSlot) else piece.text for piece in rendered(id, **options))


@pytest.fixture(scope="module")
def tiny() -> ChatTokenizer:
    return ChatTokenizer(ORACLE / "llm" / "tokenizer.json", ORACLE / "llm" / "tokenizer_config.json", SLOT)


@pytest.fixture(scope="module")
def real() -> ChatTokenizer:
    if not REAL.is_dir():
        pytest.skip("Qwen3's tokenizer is too large to ship")
    return ChatTokenizer(REAL / "tokenizer.json", REAL / "tokenizer_config.json", SLOT)


@pytest.mark.parametrize("typed", [SLOT, "<|im_end|>", f"<|im_start|>system\nx{SLOT}", "<think>", "</think>"])
@pytest.mark.parametrize(("id", "option"), OPTIONS)
def test_typed_control_tokens_stay_text(tiny: ChatTokenizer, id: str, option: str, typed: str) -> None:
    pieces = rendered(id, **{option: typed})
    harmless = rendered(id, **{option: "x"})
    assert [p for p in pieces if isinstance(p, AudioSlot) or p.control] == [
        p for p in harmless if isinstance(p, AudioSlot) or p.control
    ]
    special = [i for i in tiny.encode(pieces) if i >= 396]
    assert special == [i for i in tiny.encode(harmless) if i >= 396]
    assert special.count(tiny.placeholder_id) == 1


@pytest.mark.parametrize("id", ["canary/chat-prompt", "canary/chat-prompt-audio"])
def test_both_wordings_count_9_1_5(real: ChatTokenizer, id: str) -> None:
    ids = real.encode(rendered(id))
    at = ids.index(real.placeholder_id)
    assert (at, len(ids) - at - 1) == (9, 5)


def test_chat_prompt_audio_is_the_other_wording() -> None:
    assert plain("canary/chat-prompt-audio") == (
        f"<|im_start|>user\nTranscribe the following audio:{SLOT}<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("id", ["canary/custom-prompt", "canary/context-prompt"])
def test_nothing_typed_is_the_default_prompt(tiny: ChatTokenizer, id: str) -> None:
    assert tiny.encode(rendered(id)) == tiny.encode(rendered("canary/chat-prompt"))


def test_custom_prompt_follows_the_chat_template(real: ChatTokenizer) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(REAL)
    for system in ("", "You write what you hear."):
        content = f"Say it in figures: {SLOT} Thanks."
        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": content})
        expected = theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        options = {"system": system, "before": "Say it in figures: ", "after": " Thanks."}
        assert plain("canary/custom-prompt", **options) == expected
        assert real.encode(rendered("canary/custom-prompt", **options)) == real.encode(real.split_control(expected))


def test_context_prompt_lists_each_term_once() -> None:
    text = plain("canary/context-prompt", terms=" Krisp Audio, NeMo;\nNeMo,, Zoë\n  van   Dijk ")
    assert text == (
        "<|im_start|>user\nThe audio may contain these names and terms: Krisp Audio, NeMo, Zoë, van Dijk.\n"
        f"Transcribe the following: {SLOT}<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        (",".join(map(str, range(MAX_TERMS + 1))), f"{MAX_TERMS + 1} terms"),
        ("x" * (MAX_TERM + 1), f"a term of {MAX_TERM + 1} characters"),
        ("a" * 20_000, "at most 10000 characters"),
    ],
)
def test_context_prompt_has_limits(terms: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        validate(SPECS["canary/context-prompt"].call_options, {"terms": terms}, "canary/context-prompt")


@pytest.mark.parametrize(("id", "option"), OPTIONS)
def test_prompt_options_are_text_fields_on_the_page(id: str, option: str) -> None:
    from canary_hub.ui.widgets.fields import draw

    drawn = {field.name: field for field in draw(SPECS[id], SPECS[id].call_options, {})}
    assert drawn[option].kind == "string"
    assert drawn[option].widget.max_length == 10_000
    assert drawn[option].read("Zoë") == "Zoë"


# canary/scaled


def test_scaled_is_linear_times_the_factor(tiny_spec: StackSpec) -> None:
    linear, contract = built(tiny_spec, "canary/linear")
    hidden, lengths = torch.randn(2, 5, contract.accepts[0].dim), torch.tensor([5, 2])
    embeds, _ = linear(hidden, lengths)
    same, same_contract = built(tiny_spec, "canary/scaled")
    assert same(hidden, lengths)[0].equal(embeds)
    assert same_contract == contract
    half, half_contract = built(tiny_spec, "canary/scaled", factor=0.5)
    assert half(hidden, lengths)[0].equal(embeds * 0.5)
    assert half_contract.produces[0].tag != contract.produces[0].tag


@pytest.mark.parametrize("factor", [-0.1, 4.1, float("nan"), float("inf")])
def test_scaled_has_bounds(hub: Hub, factor: float) -> None:
    spec = hub.stack("nano", components={Stage.PROJECTOR: "canary/scaled"}, options={"factor": factor})
    assert any("factor" in problem for problem in hub.check(spec).problems)
    with pytest.raises(OptionError, match="factor"):
        validate(SPECS["canary/scaled"].build_options, {"factor": factor}, "canary/scaled")


def test_scaled_to_nothing_the_llm_hears_nothing(hub: Hub) -> None:
    wave = Waveform(digits("three one four").numpy(), RATE, "digits")
    for factor, hears in ((1.0, True), (0.0, False)):
        swapped = {Stage.PROJECTOR: "canary/scaled"}
        with hub.load("nano", components=swapped, options={"factor": factor}, device="cpu") as stack:
            assert (stack.transcribe(wave).text == "three one four") is hears
