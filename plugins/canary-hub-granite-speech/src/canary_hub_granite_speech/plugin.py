"""Granite Speech as a stack of canary_hub: the family, its components and `granite-speech-3.3-8b`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import Field

from canary_hub.hookspecs import hookimpl
from canary_hub.models.causal_lm.options import AdapterCall
from canary_hub.models.families.family import FILES, Family, Size, component
from canary_hub.specs import ComponentSpec, Options, StackSpec, Stage, WeightsRef

CANARY_HUB_API = 2

_HERE = "canary_hub_granite_speech"

FAMILY = Family(
    role="granite-speech",
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

PUBLISHED = WeightsRef(
    repo="ibm-granite/granite-speech-3.3-8b",
    revision="315afb31116c9b79dc15864d091e59ca6bf10cf9",
    files=(*FILES, "adapter_config.json"),  # "*.safetensors" takes the adapter's tensors along
    config=Path(__file__).parent / "published" / "config.json",
    gib=16.2,
)


class SpeechPromptCall(Options):
    """What is asked about the audio."""

    system: str = Field(
        "Knowledge Cutoff Date: April 2024.\nToday's Date: April 9, 2025.\n"
        "You are Granite, developed by IBM. You are a helpful AI assistant",
        max_length=10_000,
        description="System message; the model card's by default",
    )
    instruction: str = Field(
        "can you transcribe the speech into a written format?",
        max_length=10_000,
        description="What to do with the audio; the model card's words by default",
    )


_part = partial(component, FAMILY, PUBLISHED)

FIVE = (
    _part(
        Stage.PREPROCESSOR,
        "granite-speech/log-mel",
        f"{_HERE}.components:log_mel",
        "Log-mel of 80 bins, two frames stacked",
    ),
    _part(
        Stage.ENCODER,
        "granite-speech/conformer",
        f"{_HERE}.components:encoder",
        "Conformer with attention in blocks of 4 s",
    ),
    _part(
        Stage.PROJECTOR,
        "granite-speech/q-former",
        f"{_HERE}.components:projector",
        "A Q-Former: 3 audio embeddings for every 15 frames",
    ),
    _part(
        Stage.PROMPT_TEMPLATE,
        "granite-speech/speech-prompt",
        f"{_HERE}.components:prompt",
        "The audio, and then what is asked",
        call_options=SpeechPromptCall,
    ),
    _part(
        Stage.LLM,
        "granite-speech/granite",
        f"{_HERE}.llm:build_merged",
        "Granite with the speech LoRA merged at load; the base weights stay for LLM mode",
        call_options=AdapterCall,
        requires=("peft",),
        install="pip install peft",
        chat=True,
    ),
)

LIVE = replace(
    FIVE[-1],
    id="granite-speech/granite-peft",
    title="Granite with the speech LoRA live, as transformers runs it",
    factory=f"{_HERE}.llm:build_live",
)


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Granite Speech, and the live adapter as a second LLM backend."""
    return [*FIVE, LIVE]


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The published model."""
    return [
        StackSpec(
            name="granite-speech-3.3-8b",
            title="Granite Speech 3.3 8B",
            note="IBM's recogniser and translator for English and four more languages: 16 GB to download.",
            components={part.stage: part.id for part in FIVE},
            weights={FAMILY.role: PUBLISHED},
            window_seconds=60.0,
            dtype="bfloat16",
        )
    ]
