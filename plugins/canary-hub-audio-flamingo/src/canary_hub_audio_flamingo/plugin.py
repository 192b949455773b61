"""Audio Flamingo 3 as a stack of canary_hub: the family, its five components and `audio-flamingo-3`. No torch."""

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

_HERE = "canary_hub_audio_flamingo"

FAMILY = Family(
    role="audio-flamingo",
    model="AudioFlamingo3ForConditionalGeneration",
    token="<sound>",
    chat="audio-flamingo",
    n_mels=Size(("audio_config.num_mel_bins",), 128),
    d_model=Size(("audio_config.hidden_size", "audio_config.d_model"), 1280),
    hidden_size=Size(("text_config.hidden_size",), 4096),
    hidden_hz=25.0,
)

PUBLISHED = WeightsRef(
    repo="nvidia/audio-flamingo-3-hf",
    revision="7d4bae64ee29878af6504ae6f6bb3e40492838ad",
    files=FILES,
    config=Path(__file__).parent / "published" / "config.json",
    gib=15.4,
)


class SoundPromptCall(Options):
    """What is asked about the audio."""

    system: str = Field("You are a helpful assistant.", max_length=10_000, description="System message")
    instruction: str = Field("Transcribe the input speech.", max_length=10_000, description="What to do with the audio")


_part = partial(component, FAMILY, PUBLISHED)

FIVE = (
    _part(
        Stage.PREPROCESSOR,
        "audio-flamingo/log-mel",
        f"{_HERE}.components:log_mel",
        "Whisper's log-mel in windows of 30 s",
    ),
    _part(
        Stage.ENCODER,
        "audio-flamingo/whisper",
        f"{_HERE}.components:encoder",
        "Whisper's encoder, pairs of frames averaged, every window alone",
    ),
    _part(
        Stage.PROJECTOR,
        "audio-flamingo/projector",
        f"{_HERE}.components:projector",
        "Two linear layers into the LLM's space",
    ),
    _part(
        Stage.PROMPT_TEMPLATE,
        "audio-flamingo/sound-prompt",
        f"{_HERE}.components:prompt",
        "The audio, and then what is asked",
        call_options=SoundPromptCall,
    ),
    _part(
        Stage.LLM,
        "audio-flamingo/qwen2",
        f"{_HERE}.components:llm",
        "The Qwen2.5 (7B) inside Audio Flamingo 3",
        call_options=GenerateCall,
    ),
)


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Audio Flamingo 3."""
    return FIVE


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The published model; it takes up to ten minutes at once, a minute is a choice."""
    return [
        StackSpec(
            name="audio-flamingo-3",
            title="Audio Flamingo 3",
            note="NVIDIA's model for speech, sound and music, not for commercial use: 15 GB, a GPU is advised.",
            components={part.stage: part.id for part in FIVE},
            weights={FAMILY.role: PUBLISHED},
            window_seconds=60.0,
            dtype="bfloat16",
            chat=False,
        )
    ]
