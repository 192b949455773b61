"""Options of LLM backends. No torch."""

from __future__ import annotations

from pydantic import Field

from ...specs import Options


class GenerateCall(Options):
    """How text is generated; greedy by default."""

    max_new_tokens: int = Field(512, ge=1, le=4096, description="Longest answer per segment, in tokens")
    temperature: float = Field(0.0, ge=0.0, le=2.0, description="0 is greedy; above, tokens are drawn")
    seed: int = Field(0, ge=0, description="Seed for drawing tokens; unused when greedy")


class AdapterCall(GenerateCall):
    """How text is generated, and whether the adapter takes part."""

    adapter: bool = Field(True, description="LoRA on; off is the base LLM, as in LLM mode")
