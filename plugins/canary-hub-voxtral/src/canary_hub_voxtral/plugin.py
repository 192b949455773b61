"""Voxtral as a stack of canary_hub: the family, its components and the stack `voxtral-mini-3b`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from canary_hub.hookspecs import hookimpl
from canary_hub.models.causal_lm.options import GenerateCall
from canary_hub.models.families.family import Family, Size, component
from canary_hub.specs import ComponentSpec, Options, StackSpec, Stage, WeightsRef

CANARY_HUB_API = 2

_HERE = "canary_hub_voxtral"

FAMILY = Family(
    role="voxtral",
    model="VoxtralForConditionalGeneration",
    token="[AUDIO]",
    chat="voxtral",
    n_mels=Size(("audio_config.num_mel_bins",), 128),
    d_model=Size(("audio_config.hidden_size", "audio_config.d_model"), 1280),
    hidden_size=Size(("text_config.hidden_size",), 3072),
    hidden_hz=50.0,
    merge=4,
)

MINI = WeightsRef(
    repo="mistralai/Voxtral-Mini-3B-2507",
    revision="3060fe34b35ba5d44202ce9ff3c097642914f8f3",
    # Not "*.safetensors": the repository holds all weights a second time, in consolidated.safetensors.
    files=("model-*.safetensors", "model.safetensors.index.json", "generation_config.json", "tekken.json"),
    config=Path(__file__).parent / "published" / "config.json",
    gib=8.7,
)


class TranscribePromptCall(Options):
    """What is known about the audio before it is heard."""

    language: Literal["", "en", "fr", "de", "es", "it", "pt", "nl", "hi"] = Field(
        "", description="Language of the audio; empty: the model finds out"
    )


class InstructPromptCall(Options):
    """What is asked about the audio."""

    instruction: str = Field(
        "What is being said?", max_length=10_000, description="A question about the audio, or a task"
    )


_part = partial(component, FAMILY, MINI)

FIVE = (
    _part(
        Stage.PREPROCESSOR,
        "voxtral/log-mel",
        f"{_HERE}.components:log_mel",
        "Whisper's log-mel, padded to a multiple of 30 s",
    ),
    _part(
        Stage.ENCODER,
        "voxtral/whisper",
        f"{_HERE}.components:encoder",
        "Whisper's encoder at its own 50 frames a second",
    ),
    _part(
        Stage.PROJECTOR,
        "voxtral/projector",
        f"{_HERE}.components:projector",
        "Four frames joined, then two linear layers into the LLM's space",
    ),
    _part(
        Stage.PROMPT_TEMPLATE,
        "voxtral/transcribe-prompt",
        f"{_HERE}.components:prompt",
        "The transcription mode, with the language where it is known",
        call_options=TranscribePromptCall,
    ),
    _part(
        Stage.LLM,
        "voxtral/ministral",
        f"{_HERE}.llm:build",
        "The Ministral (3B) inside Voxtral",
        call_options=GenerateCall,
        requires=("mistral_common",),
        install="pip install mistral-common",
    ),
)

INSTRUCT = _part(
    Stage.PROMPT_TEMPLATE,
    "voxtral/instruct-prompt",
    f"{_HERE}.components:instruct_prompt",
    "The audio and a question about it",
    call_options=InstructPromptCall,
)


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Voxtral, and a second prompt template for questions."""
    return [*FIVE, INSTRUCT]


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The small published model; it takes half an hour at once, but every started 30 s costs the same."""
    return [
        StackSpec(
            name="voxtral-mini-3b",
            title="Voxtral Mini 3B",
            note="Mistral's transcriber for eight languages: 9 GB to download, about 10 GB of memory.",
            components={part.stage: part.id for part in FIVE},
            weights={FAMILY.role: MINI},
            window_seconds=30.0,
            dtype="bfloat16",
            chat=False,
        )
    ]
