"""What Voxtral looks like from outside, and its contracts. No torch."""

from __future__ import annotations

from canary_hub.models.families import ports
from canary_hub.models.families.family import Family, Size
from canary_hub.specs import Contract
from canary_hub.stages import Build

ROLE = "voxtral"
"""The role of the weights: encoder, projector, LLM and tokenizer are one checkpoint."""

FAMILY = Family(
    role=ROLE,
    model="VoxtralForConditionalGeneration",
    token="[AUDIO]",
    chat="voxtral",
    n_mels=Size(("audio_config.num_mel_bins",), 128),
    d_model=Size(("audio_config.hidden_size", "audio_config.d_model"), 1280),
    hidden_size=Size(("text_config.hidden_size",), 3072),
    hidden_hz=50.0,
    merge=4,
)


def log_mel(build: Build) -> Contract:
    """16 kHz audio -> n_mels features."""
    return ports.log_mel(build, FAMILY)


def encoder(build: Build) -> Contract:
    """Features -> hidden vectors."""
    return ports.encoder(build, FAMILY)


def projector(build: Build) -> Contract:
    """Hidden vectors -> audio embeddings."""
    return ports.projector(build, FAMILY)


def prompt(build: Build) -> Contract:
    """A prompt with the placeholder token."""
    return ports.prompt(build, FAMILY)


def llm(build: Build) -> Contract:
    """Audio embeddings and the prompt -> text."""
    return ports.llm(build, FAMILY)
