"""Options of the Granite Speech components. No torch."""

from __future__ import annotations

from pydantic import Field

from canary_hub.specs import Options


class SpeechPromptCall(Options):
    """What is asked about the audio."""

    system: str = Field(
        "Knowledge Cutoff Date: April 2024.\nToday's Date: April 9, 2025.\n"
        "You are Granite, developed by IBM. You are a helpful AI assistant",
        max_length=10_000,
        description="System message; the model card's by default",
    )
    instruction: str = Field(
        "can you transcribe the speech into a written format?",
        max_length=10_000,
        description="What to do with the audio; the model card's words by default",
    )
