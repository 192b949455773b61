"""The Audio Flamingo 3 components and the stack `audio-flamingo-3`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from canary_hub.hookspecs import hookimpl
from canary_hub.models.families.family import FILES
from canary_hub.models.families.specs import five
from canary_hub.specs import ComponentSpec, StackSpec, Stage, WeightsRef

from .family import ROLE
from .options import SoundPromptCall

CANARY_HUB_API = 1

PUBLISHED = WeightsRef(
    repo="nvidia/audio-flamingo-3-hf",
    revision="7d4bae64ee29878af6504ae6f6bb3e40492838ad",
    files=FILES,
    config=Path(__file__).parent / "published" / "config.json",
    gib=15.4,
)

IDS = {
    Stage.PREPROCESSOR: "audio-flamingo/log-mel",
    Stage.ENCODER: "audio-flamingo/whisper",
    Stage.PROJECTOR: "audio-flamingo/projector",
    Stage.PROMPT_TEMPLATE: "audio-flamingo/sound-prompt",
    Stage.LLM: "audio-flamingo/qwen2",
}

TITLES = {
    Stage.PREPROCESSOR: "Whisper's log-mel in windows of 30 s",
    Stage.ENCODER: "Whisper's encoder, pairs of frames averaged, every window alone",
    Stage.PROJECTOR: "Two linear layers into the LLM's space",
    Stage.PROMPT_TEMPLATE: "The audio, and then what is asked",
    Stage.LLM: "The Qwen2.5 (7B) inside Audio Flamingo 3",
}


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Audio Flamingo 3."""
    return five("canary_hub_audio_flamingo", IDS, TITLES, {ROLE: PUBLISHED}, SoundPromptCall)


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The published model; it takes up to ten minutes at once, a minute is a choice."""
    return [
        StackSpec(
            name="audio-flamingo-3",
            title="Audio Flamingo 3",
            note="NVIDIA's model for speech, sound and music, not for commercial use: 15 GB, a GPU is advised.",
            components=IDS,
            weights={ROLE: PUBLISHED},
            window_seconds=60.0,
            dtype="bfloat16",
            chat=False,
        )
    ]
