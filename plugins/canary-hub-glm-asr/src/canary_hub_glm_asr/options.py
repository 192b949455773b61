"""Options of the GLM-ASR components. No torch."""

from __future__ import annotations

from pydantic import Field

from canary_hub.specs import Options


class TranscribePromptCall(Options):
    """What is asked about the audio."""

    instruction: str = Field(
        "Please transcribe this audio into text", max_length=10_000, description="What to do with the audio"
    )
