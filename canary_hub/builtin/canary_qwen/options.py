"""Options of the Canary-Qwen components. No torch."""

from __future__ import annotations

from pydantic import Field

from ...specs import Options


class ChatPromptCall(Options):
    """What may be said around the audio; the model card's wording by default."""

    before: str = Field("Transcribe the following: ", max_length=10_000, description="Text before the audio")
    after: str = Field("", max_length=10_000, description="Text after the audio")


class Qwen3Call(Options):
    """How text is generated; greedy by default, as the model card asks."""

    max_new_tokens: int = Field(448, ge=1, le=4096, description="Longest answer per segment, in tokens")
    temperature: float = Field(0.0, ge=0.0, le=2.0, description="0 is greedy; above, tokens are drawn")
    seed: int = Field(0, ge=0, description="Seed for drawing tokens; unused when greedy")
    adapter: bool = Field(True, description="LoRA on; off is the base LLM, as in LLM mode")
