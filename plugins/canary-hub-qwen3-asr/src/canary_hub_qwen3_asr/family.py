"""What Qwen3-ASR looks like from outside, and its contracts. No torch."""

from __future__ import annotations

from canary_hub.models.families import ports
from canary_hub.models.families.family import Family, Size
from canary_hub.specs import Contract
from canary_hub.stages import Build

ROLE = "qwen3-asr"
"""The role of the weights: encoder, projector, LLM and tokenizer are one checkpoint."""

CHUNK = 100
"""Feature frames (1 s) that the convolutions see at a time; transformers' encoder computes this size only, for
its 13 positions."""
CHUNK_FRAMES = 13

FAMILY = Family(
    role=ROLE,
    model="Qwen3ASRForConditionalGeneration",
    token="<|audio_pad|>",
    chat="qwen3-asr",
    n_mels=Size(("audio_config.num_mel_bins",), 128),
    d_model=Size(("audio_config.d_model",)),
    hidden_size=Size(("text_config.hidden_size",)),
    hidden_hz=float(CHUNK_FRAMES),
)


def log_mel(build: Build) -> Contract:
    """16 kHz audio -> n_mels features."""
    return ports.log_mel(build, FAMILY)


def encoder(build: Build) -> Contract:
    """Features -> hidden vectors, 13 a second."""
    return ports.encoder(build, FAMILY)


def projector(build: Build) -> Contract:
    """Hidden vectors -> audio embeddings, one each."""
    return ports.projector(build, FAMILY)


def prompt(build: Build) -> Contract:
    """A prompt with `<|audio_pad|>` between `<|audio_start|>` and `<|audio_end|>`."""
    return ports.prompt(build, FAMILY)


def llm(build: Build) -> Contract:
    """Audio embeddings and the prompt -> text."""
    return ports.llm(build, FAMILY)
