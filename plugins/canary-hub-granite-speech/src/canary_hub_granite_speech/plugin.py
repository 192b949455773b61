"""The Granite Speech components and the stack `granite-speech-3.3-8b`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from canary_hub.hookspecs import hookimpl
from canary_hub.models.causal_lm.options import AdapterCall
from canary_hub.models.families.family import FILES
from canary_hub.models.families.specs import five
from canary_hub.specs import ComponentSpec, StackSpec, Stage, WeightsRef

from .family import ROLE
from .options import SpeechPromptCall

CANARY_HUB_API = 1

_HERE = "canary_hub_granite_speech"

PUBLISHED = WeightsRef(
    repo="ibm-granite/granite-speech-3.3-8b",
    revision="315afb31116c9b79dc15864d091e59ca6bf10cf9",
    files=(*FILES, "adapter_config.json"),  # "*.safetensors" takes the adapter's tensors along
    config=Path(__file__).parent / "published" / "config.json",
    gib=16.2,
)

IDS = {
    Stage.PREPROCESSOR: "granite-speech/log-mel",
    Stage.ENCODER: "granite-speech/conformer",
    Stage.PROJECTOR: "granite-speech/q-former",
    Stage.PROMPT_TEMPLATE: "granite-speech/speech-prompt",
    Stage.LLM: "granite-speech/granite",
}

TITLES = {
    Stage.PREPROCESSOR: "Log-mel of 80 bins, two frames stacked",
    Stage.ENCODER: "Conformer with attention in blocks of 4 s",
    Stage.PROJECTOR: "A Q-Former: 3 audio embeddings for every 15 frames",
    Stage.PROMPT_TEMPLATE: "The audio, and then what is asked",
    Stage.LLM: "Granite with the speech LoRA merged at load; the base weights stay for LLM mode",
}


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Granite Speech, and the live adapter as a second LLM backend."""
    *others, merged = five(
        _HERE,
        IDS,
        TITLES,
        {ROLE: PUBLISHED},
        SpeechPromptCall,
        AdapterCall,
        requires=("peft",),
        install="pip install peft",
    )
    live = replace(
        merged,
        id="granite-speech/granite-peft",
        title="Granite with the speech LoRA live, as transformers runs it",
        factory=f"{_HERE}.components:llm_peft",
        chat=True,
    )
    return [*others, replace(merged, chat=True), live]


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The published model."""
    return [
        StackSpec(
            name="granite-speech-3.3-8b",
            title="Granite Speech 3.3 8B",
            note="IBM's recogniser and translator for English and four more languages: 16 GB to download.",
            components=IDS,
            weights={ROLE: PUBLISHED},
            window_seconds=60.0,
            dtype="bfloat16",
        )
    ]
