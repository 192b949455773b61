"""The Qwen2-Audio components and the stack `qwen2-audio-7b`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from canary_hub.hookspecs import hookimpl
from canary_hub.models.families.family import FILES
from canary_hub.models.families.specs import five
from canary_hub.specs import ComponentSpec, StackSpec, Stage, WeightsRef

from .family import ROLE
from .options import AudioPromptCall

CANARY_HUB_API = 1

INSTRUCT = WeightsRef(
    repo="Qwen/Qwen2-Audio-7B-Instruct",
    revision="0a095220c30b7b31434169c3086508ef3ea5bf0a",
    files=FILES,
    config=Path(__file__).parent / "published" / "config.json",
    gib=15.6,
)

IDS = {
    Stage.PREPROCESSOR: "qwen2-audio/log-mel",
    Stage.ENCODER: "qwen2-audio/whisper",
    Stage.PROJECTOR: "qwen2-audio/projector",
    Stage.PROMPT_TEMPLATE: "qwen2-audio/audio-prompt",
    Stage.LLM: "qwen2-audio/qwen2",
}

TITLES = {
    Stage.PREPROCESSOR: "Whisper's log-mel, padded to 30 s",
    Stage.ENCODER: "Whisper's encoder, pairs of frames averaged",
    Stage.PROJECTOR: "One linear layer into the LLM's space",
    Stage.PROMPT_TEMPLATE: "The audio, numbered, and then what is asked",
    Stage.LLM: "The Qwen (7B) inside Qwen2-Audio",
}


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Qwen2-Audio."""
    return five("canary_hub_qwen2_audio", IDS, TITLES, {ROLE: INSTRUCT}, AudioPromptCall)


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The instruction-tuned model, which hears 30 s at a time."""
    return [
        StackSpec(
            name="qwen2-audio-7b",
            title="Qwen2-Audio 7B Instruct",
            note="Answers questions about speech and sound: 16 GB to download, a GPU is advised.",
            components=IDS,
            weights={ROLE: INSTRUCT},
            window_seconds=30.0,
            dtype="bfloat16",
            chat=False,
        )
    ]
