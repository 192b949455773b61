"""Options of the Canary-Qwen components. No torch."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from ...specs import Options
from ..causal_lm.options import AdapterCall

DEFAULT_BEFORE = "Transcribe the following: "
"""The model card's wording, which Canary-Qwen was trained with."""


class ChatPromptCall(Options):
    """What may be said around the audio; the model card's wording by default."""

    before: str = Field(DEFAULT_BEFORE, max_length=10_000, description="Text before the audio")
    after: str = Field("", max_length=10_000, description="Text after the audio")


class Qwen3Call(AdapterCall):
    """How text is generated; greedy by default, as the model card asks."""

    max_new_tokens: int = Field(448, ge=1, le=4096, description="Longest answer per segment, in tokens")


class FastConformerLocalBuild(Options):
    """How far attention reaches, in encoder frames (80 ms each for Canary-Qwen); NeMo's `att_context_size`."""

    left_context: int = Field(128, ge=0, le=5000, description="Encoder frames before its own that a frame attends to")
    right_context: int = Field(128, ge=0, le=5000, description="Encoder frames after its own that a frame attends to")


class DenoiseLogMelBuild(Options):
    """How much noise is taken out before the log-mel."""

    strength: float = Field(0.7, ge=0.0, le=1.0, description="Noise keeps 1 - strength of its amplitude; 0: no gate")


class ScaledBuild(Options):
    """How loud the LLM hears the audio embeddings."""

    factor: float = Field(1.0, ge=0.0, le=4.0, description="Times every audio embedding; 1 is canary/linear itself")


class CustomPromptCall(Options):
    """Any text around the audio; without a system message there is no such turn."""

    system: str = Field("", max_length=10_000, description="System message; the model was trained without one")
    before: str = Field(DEFAULT_BEFORE, max_length=10_000, description="Text before the audio")
    after: str = Field("", max_length=10_000, description="Text after the audio")


MAX_TERMS, MAX_TERM = 100, 80
"""How many terms, and characters in one, canary/context-prompt takes."""


class ContextPromptCall(Options):
    """Names and terms to expect in the audio."""

    terms: str = Field(
        "", max_length=10_000, description=f"Names and terms to expect, by commas or lines; {MAX_TERMS} at most"
    )

    @property
    def listed(self) -> list[str]:
        """The terms, each once, in the order given, on one line each."""
        terms = (" ".join(term.split()) for term in re.split(r"[,;\n]", self.terms))
        return list(dict.fromkeys(term for term in terms if term))

    @field_validator("terms")
    @classmethod
    def _within_limits(cls, terms: str) -> str:
        listed = cls.model_construct(terms=terms).listed
        if len(listed) > MAX_TERMS:
            raise ValueError(f"{len(listed)} terms; at most {MAX_TERMS} fit")
        for term in listed:
            if len(term) > MAX_TERM:
                raise ValueError(f"a term of {len(term)} characters, {term[:20]!r}...; at most {MAX_TERM} fit")
        return terms
