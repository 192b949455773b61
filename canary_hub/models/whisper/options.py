"""Options of the Whisper components. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...specs import Options
from ..causal_lm.options import GenerateCall


class WhisperLogMelBuild(Options):
    """How much audio the encoder is given."""

    whole_window: bool = Field(
        True, description="Always 30 s, padded with silence, as it was trained; off is faster, and less sure of the end"
    )


class EnglishPromptCall(Options):
    """What a model that knows English alone is asked for."""

    timestamps: bool = Field(False, description="Also write when each phrase begins and ends")


class MultilingualPromptCall(EnglishPromptCall):
    """What a model of many languages is asked for."""

    language: str = Field("en", pattern=r"^[a-z]{2,3}$", description="The language spoken, such as en, de or fr")
    task: Literal["transcribe", "translate"] = Field(
        "transcribe", description="Write what is said, or its English translation"
    )


class WhisperCall(GenerateCall):
    """How text is generated, and when nothing is written."""

    max_new_tokens: int = Field(224, ge=1, le=440, description="Longest answer per segment, in tokens")
    no_speech: float = Field(
        0.6,
        ge=0.0,
        le=1.0,
        description="Write nothing where silence is more probable than this; 1 writes always",
    )
