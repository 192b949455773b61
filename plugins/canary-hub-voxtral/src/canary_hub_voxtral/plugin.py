"""The Voxtral components and the stack `voxtral-mini-3b`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from canary_hub.hookspecs import hookimpl
from canary_hub.models.families.specs import five
from canary_hub.specs import ComponentSpec, StackSpec, Stage, WeightsRef

from .family import ROLE
from .options import InstructPromptCall, TranscribePromptCall

CANARY_HUB_API = 1

MINI = WeightsRef(
    repo="mistralai/Voxtral-Mini-3B-2507",
    revision="3060fe34b35ba5d44202ce9ff3c097642914f8f3",
    # Not "*.safetensors": the repository holds all weights a second time, in consolidated.safetensors.
    files=("model-*.safetensors", "model.safetensors.index.json", "generation_config.json", "tekken.json"),
    config=Path(__file__).parent / "published" / "config.json",
    gib=8.7,
)

IDS = {
    Stage.PREPROCESSOR: "voxtral/log-mel",
    Stage.ENCODER: "voxtral/whisper",
    Stage.PROJECTOR: "voxtral/projector",
    Stage.PROMPT_TEMPLATE: "voxtral/transcribe-prompt",
    Stage.LLM: "voxtral/ministral",
}

TITLES = {
    Stage.PREPROCESSOR: "Whisper's log-mel, padded to a multiple of 30 s",
    Stage.ENCODER: "Whisper's encoder at its own 50 frames a second",
    Stage.PROJECTOR: "Four frames joined, then two linear layers into the LLM's space",
    Stage.PROMPT_TEMPLATE: "The transcription mode, with the language where it is known",
    Stage.LLM: "The Ministral (3B) inside Voxtral",
}


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Voxtral, and a second prompt template for questions."""
    here = "canary_hub_voxtral"
    instruct = ComponentSpec(
        stage=Stage.PROMPT_TEMPLATE,
        id="voxtral/instruct-prompt",
        title="The audio and a question about it",
        factory=f"{here}.prompts:build_instruct",
        contract=f"{here}.family:prompt",
        call_options=InstructPromptCall,
    )
    stages = five(
        here,
        IDS,
        TITLES,
        {ROLE: MINI},
        TranscribePromptCall,
        requires=("mistral_common",),
        install="pip install mistral-common",
    )
    return [*stages, instruct]


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The small published model; it takes half an hour at once, but every started 30 s costs the same."""
    return [
        StackSpec(
            name="voxtral-mini-3b",
            title="Voxtral Mini 3B",
            note="Mistral's transcriber for eight languages: 9 GB to download, about 10 GB of memory.",
            components=IDS,
            weights={ROLE: MINI},
            window_seconds=30.0,
            dtype="bfloat16",
            chat=False,
        )
    ]
