"""The contracts of the Canary-Qwen components, from the checkpoint's configs. No torch."""

from __future__ import annotations

from dataclasses import replace

from ...specs import Contract, Port
from ...stages import Build
from .checkpoint import BASE_LLM, CHECKPOINT
from .layout import get, number, size, text
from .options import DenoiseLogMelBuild, ScaledBuild


def _features(build: Build) -> Port:
    pre = get(build.weights[CHECKPOINT].config, "perception.preprocessor")
    return Port(
        "features",
        dim=size(pre, "features"),
        rate_hz=1.0 / number(pre, "window_stride"),
        layout="B F T",
        tag=build.weights[CHECKPOINT].name,
    )


def _hidden(build: Build) -> Port:
    config = build.weights[CHECKPOINT].config
    rate = _features(build).rate_hz
    assert rate is not None
    return Port(
        "hidden",
        dim=size(config, "perception.encoder.d_model"),
        rate_hz=rate / size(config, "perception.encoder.subsampling_factor"),
        layout="B N D",
        tag=build.weights[CHECKPOINT].name,
    )


def _embeds(build: Build, dim: int, rate_hz: float | None) -> Port:
    return Port("embeds", dim=dim, rate_hz=rate_hz, layout="B M H", tag=build.weights[CHECKPOINT].name)


def _prompt(build: Build) -> Port:
    config = build.weights[CHECKPOINT].config
    return Port("prompt", layout=f"{get(config, 'prompt_format')} chat", token=text(config, "audio_locator_tag"))


def log_mel(build: Build) -> Contract:
    """Audio at the preprocessor's rate -> n_mels features."""
    rate = number(build.weights[CHECKPOINT].config, "perception.preprocessor.sample_rate")
    return Contract((Port("audio", rate_hz=rate, layout="B S"),), (_features(build),))


def fastconformer(build: Build) -> Contract:
    """Features -> d_model hidden vectors at 1 / subsampling_factor of the frame rate."""
    accepts = Port(
        "features",
        dim=size(build.weights[CHECKPOINT].config, "perception.encoder.feat_in"),
        rate_hz=_features(build).rate_hz,
        layout="B F T",
        tag=build.weights[CHECKPOINT].name,
    )
    return Contract((accepts,), (_hidden(build),))


def linear(build: Build) -> Contract:
    """d_model hidden vectors -> hidden_size audio embeddings, one each."""
    hidden = _hidden(build)
    output_dim = size(build.weights[CHECKPOINT].config, "perception.output_dim")
    return Contract((hidden,), (_embeds(build, output_dim, hidden.rate_hz),))


def chat_prompt(build: Build) -> Contract:
    """A chat prompt that holds the checkpoint's placeholder token."""
    return Contract((), (_prompt(build),))


def qwen3(build: Build) -> Contract:
    """Audio embeddings of the LLM's hidden_size and a chat prompt -> text."""
    hidden_size = size(build.weights[BASE_LLM].config, "hidden_size", "base LLM config")
    return Contract((_embeds(build, hidden_size, None), _prompt(build)), (Port("text"),))


def denoise_log_mel(build: Build) -> Contract:
    """As canary/log-mel; features of gated audio are not what the checkpoint was trained on."""
    assert isinstance(build.options, DenoiseLogMelBuild)
    contract = log_mel(build)
    if not build.options.strength:
        return contract
    (features,) = contract.produces
    return replace(contract, produces=(replace(features, tag=f"{features.tag}, audio denoised"),))


def scaled(build: Build) -> Contract:
    """As canary/linear; scaled embeddings are not what the checkpoint was trained on."""
    assert isinstance(build.options, ScaledBuild)
    contract = linear(build)
    if build.options.factor == 1:
        return contract
    (embeds,) = contract.produces
    return replace(contract, produces=(replace(embeds, tag=f"{embeds.tag}, times {build.options.factor:g}"),))
