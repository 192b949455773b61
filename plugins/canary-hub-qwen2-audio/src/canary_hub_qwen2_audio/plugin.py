"""Qwen2-Audio as a stack of canary_hub: the family, its five components and the stack `qwen2-audio-7b`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from pydantic import Field

from canary_hub.hookspecs import hookimpl
from canary_hub.models.causal_lm.options import GenerateCall
from canary_hub.models.families.family import FILES, Family, Size, component
from canary_hub.specs import ComponentSpec, Options, StackSpec, Stage, WeightsRef

CANARY_HUB_API = 2

_HERE = "canary_hub_qwen2_audio"

FAMILY = Family(
    role="qwen2-audio",
    model="Qwen2AudioForConditionalGeneration",
    token="<|AUDIO|>",
    chat="qwen2-audio",
    n_mels=Size(("audio_config.num_mel_bins",), 128),
    d_model=Size(("audio_config.d_model",), 1280),
    hidden_size=Size(("text_config.hidden_size",), 4096),
    hidden_hz=25.0,
)

INSTRUCT = WeightsRef(
    repo="Qwen/Qwen2-Audio-7B-Instruct",
    revision="0a095220c30b7b31434169c3086508ef3ea5bf0a",
    files=FILES,
    config=Path(__file__).parent / "published" / "config.json",
    gib=15.6,
)


class AudioPromptCall(Options):
    """What is asked about the audio."""

    system: str = Field("You are a helpful assistant.", max_length=10_000, description="System message")
    instruction: str = Field(
        "Transcribe the speech word for word.", max_length=10_000, description="What to do with the audio"
    )


_part = partial(component, FAMILY, INSTRUCT)

FIVE = (
    _part(
        Stage.PREPROCESSOR, "qwen2-audio/log-mel", f"{_HERE}.components:log_mel", "Whisper's log-mel, padded to 30 s"
    ),
    _part(
        Stage.ENCODER,
        "qwen2-audio/whisper",
        f"{_HERE}.components:encoder",
        "Whisper's encoder, pairs of frames averaged",
    ),
    _part(
        Stage.PROJECTOR,
        "qwen2-audio/projector",
        f"{_HERE}.components:projector",
        "One linear layer into the LLM's space",
    ),
    _part(
        Stage.PROMPT_TEMPLATE,
        "qwen2-audio/audio-prompt",
        f"{_HERE}.components:prompt",
        "The audio, numbered, and then what is asked",
        call_options=AudioPromptCall,
    ),
    _part(
        Stage.LLM,
        "qwen2-audio/qwen2",
        f"{_HERE}.components:llm",
        "The Qwen (7B) inside Qwen2-Audio",
        call_options=GenerateCall,
    ),
)


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Qwen2-Audio."""
    return FIVE


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The instruction-tuned model, which hears 30 s at a time."""
    return [
        StackSpec(
            name="qwen2-audio-7b",
            title="Qwen2-Audio 7B Instruct",
            note="Answers questions about speech and sound: 16 GB to download, a GPU is advised.",
            components={part.stage: part.id for part in FIVE},
            weights={FAMILY.role: INSTRUCT},
            window_seconds=30.0,
            dtype="bfloat16",
            chat=False,
        )
    ]
