"""The Qwen3-ASR components and the stacks `qwen3-asr-0.6b` and `qwen3-asr-1.7b`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from canary_hub.hookspecs import hookimpl
from canary_hub.models.families.family import FILES
from canary_hub.models.families.specs import five
from canary_hub.specs import ComponentSpec, StackSpec, Stage, WeightsRef

from .family import ROLE
from .options import TranscribePromptCall

CANARY_HUB_API = 1

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

IDS = {
    Stage.PREPROCESSOR: "qwen3-asr/log-mel",
    Stage.ENCODER: "qwen3-asr/encoder",
    Stage.PROJECTOR: "qwen3-asr/projector",
    Stage.PROMPT_TEMPLATE: "qwen3-asr/transcribe-prompt",
    Stage.LLM: "qwen3-asr/qwen3",
}

TITLES = {
    Stage.PREPROCESSOR: "Whisper's log-mel without padding to 30 s",
    Stage.ENCODER: "Convolutions over one-second chunks, attention over windows of 8 s",
    Stage.PROJECTOR: "Two linear layers into the LLM's space",
    Stage.PROMPT_TEMPLATE: "The audio alone, with context and language where they are known",
    Stage.LLM: "The Qwen3 inside Qwen3-ASR",
}


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Qwen3-ASR."""
    return five("canary_hub_qwen3_asr", IDS, TITLES, {ROLE: SMALL}, TranscribePromptCall)


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
            components=IDS,
            weights={ROLE: weights},
            window_seconds=60.0,
            dtype="bfloat16",
            chat=False,
        )
        for name, title, weights, cost in sizes
    ]
