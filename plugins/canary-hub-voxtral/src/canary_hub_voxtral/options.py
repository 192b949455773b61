"""Options of the Voxtral components. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from canary_hub.specs import Options


class TranscribePromptCall(Options):
    """What is known about the audio before it is heard."""

    language: Literal["", "en", "fr", "de", "es", "it", "pt", "nl", "hi"] = Field(
        "", description="Language of the audio; empty: the model finds out"
    )


class InstructPromptCall(Options):
    """What is asked about the audio."""

    instruction: str = Field(
        "What is being said?", max_length=10_000, description="A question about the audio, or a task"
    )
