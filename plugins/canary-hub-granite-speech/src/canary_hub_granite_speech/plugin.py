"""The Granite Speech components and the stacks `granite-speech-3.3-2b` and `granite-speech-3.3-8b`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from canary_hub.causal_lm.options import AdapterCall
from canary_hub.families.family import FILES
from canary_hub.families.specs import five
from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, StackSpec, Stage, WeightsRef

from .family import ROLE
from .options import SpeechPromptCall

CANARY_HUB_API = 1

_HERE = "canary_hub_granite_speech"
_PUBLISHED = Path(__file__).parent / "published"
_FILES = (*FILES, "adapter_config.json")  # "*.safetensors" takes the adapter's tensors along

SMALL = WeightsRef(
    repo="ibm-granite/granite-speech-3.3-2b",
    revision="main",  # not pinned yet: its commit has to be looked up where the Hub can be reached
    files=_FILES,
    config=_PUBLISHED / "config-2b.json",
    gib=5.5,
)
LARGE = WeightsRef(
    repo="ibm-granite/granite-speech-3.3-8b",
    revision="315afb31116c9b79dc15864d091e59ca6bf10cf9",
    files=_FILES,
    config=_PUBLISHED / "config-8b.json",
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
        _HERE, IDS, TITLES, {ROLE: LARGE}, SpeechPromptCall, AdapterCall, requires=("peft",), install="pip install peft"
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
    """The two published sizes."""
    sizes = [("2b", "2B", SMALL, "5.5 GB"), ("8b", "8B", LARGE, "16 GB")]
    return [
        StackSpec(
            name=f"granite-speech-3.3-{name}",
            title=f"Granite Speech 3.3 {title}",
            note=f"IBM's recogniser and translator for English and four more languages: {size} to download.",
            components=IDS,
            weights={ROLE: weights},
            window_seconds=60.0,
            dtype="bfloat16",
        )
        for name, title, weights, size in sizes
    ]
