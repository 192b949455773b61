"""Options of the Audio Flamingo 3 components. No torch."""

from __future__ import annotations

from pydantic import Field

from canary_hub.specs import Options


class SoundPromptCall(Options):
    """What is asked about the audio."""

    system: str = Field("You are a helpful assistant.", max_length=10_000, description="System message")
    instruction: str = Field("Transcribe the input speech.", max_length=10_000, description="What to do with the audio")
