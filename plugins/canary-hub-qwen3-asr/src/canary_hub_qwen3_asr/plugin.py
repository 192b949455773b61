"""The Qwen3-ASR components and the stacks `qwen3-asr-0.6b` and `qwen3-asr-1.7b`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from canary_hub.causal_lm.options import GenerateCall
from canary_hub.families.family import FILES
from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, StackSpec, Stage, WeightsRef

from .family import ROLE
from .options import TranscribePromptCall

CANARY_HUB_API = 1

_HERE = "canary_hub_qwen3_asr"
_PUBLISHED = Path(__file__).parent / "published"

SMALL = WeightsRef(
    repo="Qwen/Qwen3-ASR-0.6B-hf",
    revision="7f1569a48a89f3e3f4dc3a5c9d28bddd903bc76c",
    files=FILES,
    config=_PUBLISHED / "config-0.6b.json",
    gib=1.5,
)
LARGE = WeightsRef(
    repo="Qwen/Qwen3-ASR-1.7B-hf",
    revision="bcd2b5b7f32b480ab5790554cfa8347f246a14f3",
    files=FILES,
    config=_PUBLISHED / "config-1.7b.json",
    gib=3.8,
)
"""The checkpoints in transformers' own layout; Qwen/Qwen3-ASR-0.6B and -1.7B hold the same tensors under the names
of the qwen-asr package, which no module of transformers reads."""

COMPONENTS = {
    Stage.PREPROCESSOR: "qwen3-asr/log-mel",
    Stage.ENCODER: "qwen3-asr/encoder",
    Stage.PROJECTOR: "qwen3-asr/projector",
    Stage.PROMPT_TEMPLATE: "qwen3-asr/transcribe-prompt",
    Stage.LLM: "qwen3-asr/qwen3",
}


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Qwen3-ASR."""
    weights = {ROLE: SMALL}
    return [
        ComponentSpec(
            stage=Stage.PREPROCESSOR,
            id=COMPONENTS[Stage.PREPROCESSOR],
            title="Whisper's log-mel without padding to 30 s",
            factory=f"{_HERE}.log_mel:build",
            contract=f"{_HERE}.family:log_mel",
            weights=weights,
        ),
        ComponentSpec(
            stage=Stage.ENCODER,
            id=COMPONENTS[Stage.ENCODER],
            title="Convolutions over one-second chunks, attention over windows of 8 s",
            factory=f"{_HERE}.encoder:build",
            contract=f"{_HERE}.family:encoder",
            weights=weights,
        ),
        ComponentSpec(
            stage=Stage.PROJECTOR,
            id=COMPONENTS[Stage.PROJECTOR],
            title="Two linear layers into the LLM's space",
            factory=f"{_HERE}.projector:build",
            contract=f"{_HERE}.family:projector",
            weights=weights,
        ),
        ComponentSpec(
            stage=Stage.PROMPT_TEMPLATE,
            id=COMPONENTS[Stage.PROMPT_TEMPLATE],
            title="The audio alone, with context and language where they are known",
            factory=f"{_HERE}.prompts:build",
            contract=f"{_HERE}.family:prompt",
            call_options=TranscribePromptCall,
        ),
        ComponentSpec(
            stage=Stage.LLM,
            id=COMPONENTS[Stage.LLM],
            title="The Qwen3 inside Qwen3-ASR",
            factory=f"{_HERE}.qwen3:build",
            contract=f"{_HERE}.family:llm",
            weights=weights,
            call_options=GenerateCall,
        ),
    ]


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The two published sizes. A minute of audio at a time is a choice: the model takes up to 20 minutes, at the
    price of attention over all of it and a late first word."""
    sizes = [("0.6b", "0.6B", SMALL, "1.5 GB to download"), ("1.7b", "1.7B", LARGE, "3.8 GB to download")]
    return [
        StackSpec(
            name=f"qwen3-asr-{name}",
            title=f"Qwen3-ASR {title}",
            note=f"Alibaba's recogniser for 30 languages: {cost}.",
            components=COMPONENTS,
            weights={ROLE: weights},
            window_seconds=60.0,
            dtype="bfloat16",
            chat=False,
        )
        for name, title, weights, cost in sizes
    ]
