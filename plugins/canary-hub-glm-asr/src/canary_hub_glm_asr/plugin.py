"""GLM-ASR as a stack of canary_hub: the family, its five components and the stack `glm-asr-nano`. No torch."""

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

_HERE = "canary_hub_glm_asr"

FAMILY = Family(
    role="glm-asr",
    model="GlmAsrForConditionalGeneration",
    token="<|pad|>",
    chat="glm-asr",
    n_mels=Size(("audio_config.num_mel_bins",), 128),
    d_model=Size(("audio_config.hidden_size",), 1280),
    hidden_size=Size(("text_config.hidden_size",), 2048),
    hidden_hz=50.0,
    merge=4,
)

NANO = WeightsRef(
    repo="zai-org/GLM-ASR-Nano-2512",
    revision="61ba4e0b3309b6656edea3e93e419f7bd5c61957",
    files=FILES,
    config=Path(__file__).parent / "published" / "config.json",
    gib=4.2,
)


class TranscribePromptCall(Options):
    """What is asked about the audio."""

    instruction: str = Field(
        "Please transcribe this audio into text", max_length=10_000, description="What to do with the audio"
    )


_part = partial(component, FAMILY, NANO)

FIVE = (
    _part(Stage.PREPROCESSOR, "glm-asr/log-mel", f"{_HERE}.components:log_mel", "Whisper's log-mel in windows of 30 s"),
    _part(
        Stage.ENCODER,
        "glm-asr/encoder",
        f"{_HERE}.components:encoder",
        "Whisper's encoder with rotary positions, every window alone",
    ),
    _part(
        Stage.PROJECTOR,
        "glm-asr/projector",
        f"{_HERE}.components:projector",
        "Four frames joined, then two linear layers into the LLM's space",
    ),
    _part(
        Stage.PROMPT_TEMPLATE,
        "glm-asr/transcribe-prompt",
        f"{_HERE}.components:prompt",
        "The audio, and then what is asked",
        call_options=TranscribePromptCall,
    ),
    _part(
        Stage.LLM, "glm-asr/glm", f"{_HERE}.components:llm", "The GLM (1.5B) inside GLM-ASR", call_options=GenerateCall
    ),
)


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of GLM-ASR."""
    return FIVE


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The published model; it takes up to eleven minutes at once, every started 30 s cost the same."""
    return [
        StackSpec(
            name="glm-asr-nano",
            title="GLM-ASR Nano",
            note="Z.ai's recogniser for Chinese, Cantonese and English: 4.2 GB to download.",
            components={part.stage: part.id for part in FIVE},
            weights={FAMILY.role: NANO},
            window_seconds=30.0,
            dtype="bfloat16",
            chat=False,
        )
    ]
