"""What Granite Speech looks like from outside, and its contracts. No torch."""

from __future__ import annotations

from canary_hub.models.families import ports
from canary_hub.models.families.family import Family, Size
from canary_hub.specs import Contract
from canary_hub.stages import Build

ROLE = "granite-speech"
"""The role of the weights: encoder, projector, LLM, LoRA adapter and tokenizer are one repository."""

FAMILY = Family(
    role=ROLE,
    model="GraniteSpeechForConditionalGeneration",
    token="<|audio|>",
    chat="granite",
    n_mels=Size(("encoder_config.input_dim",), 160),
    d_model=Size(("encoder_config.hidden_dim",), 1024),
    hidden_size=Size(("text_config.hidden_size",)),
    hidden_hz=50.0,
    merge=5,
    encoder="model.encoder",
    projector="model.projector",
    feature_hz=50.0,
)
"""Two mel frames stacked are one feature frame; 15 of the encoder's become 3 audio embeddings, so five make one."""


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
