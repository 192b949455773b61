"""The GLM-ASR components and the stack `glm-asr-nano`."""

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

NANO = WeightsRef(
    repo="zai-org/GLM-ASR-Nano-2512",
    revision="61ba4e0b3309b6656edea3e93e419f7bd5c61957",
    files=FILES,
    config=Path(__file__).parent / "published" / "config.json",
    gib=4.2,
)

IDS = {
    Stage.PREPROCESSOR: "glm-asr/log-mel",
    Stage.ENCODER: "glm-asr/encoder",
    Stage.PROJECTOR: "glm-asr/projector",
    Stage.PROMPT_TEMPLATE: "glm-asr/transcribe-prompt",
    Stage.LLM: "glm-asr/glm",
}

TITLES = {
    Stage.PREPROCESSOR: "Whisper's log-mel in windows of 30 s",
    Stage.ENCODER: "Whisper's encoder with rotary positions, every window alone",
    Stage.PROJECTOR: "Four frames joined, then two linear layers into the LLM's space",
    Stage.PROMPT_TEMPLATE: "The audio, and then what is asked",
    Stage.LLM: "The GLM (1.5B) inside GLM-ASR",
}


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of GLM-ASR."""
    return five("canary_hub_glm_asr", IDS, TITLES, {ROLE: NANO}, TranscribePromptCall)


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The published model; it takes up to eleven minutes at once, every started 30 s cost the same."""
    return [
        StackSpec(
            name="glm-asr-nano",
            title="GLM-ASR Nano",
            note="Z.ai's recogniser for Chinese, Cantonese and English: 4.2 GB to download.",
            components=IDS,
            weights={ROLE: NANO},
            window_seconds=30.0,
            dtype="bfloat16",
            chat=False,
        )
    ]
