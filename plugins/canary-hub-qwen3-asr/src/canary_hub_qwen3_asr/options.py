"""Options of the Qwen3-ASR components. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from canary_hub.specs import Options

Language = Literal[
    "", "Arabic", "Cantonese", "Chinese", "Czech", "Danish", "Dutch", "English", "Filipino", "Finnish", "French",
    "German", "Greek", "Hindi", "Hungarian", "Indonesian", "Italian", "Japanese", "Korean", "Macedonian", "Malay",
    "Persian", "Polish", "Portuguese", "Romanian", "Russian", "Spanish", "Swedish", "Thai", "Turkish", "Vietnamese",
]  # fmt: skip
"""The names the model was trained with. Source: transformers 5.23 `processing_qwen3_asr.py`."""


class TranscribePromptCall(Options):
    """What is known about the audio before it is heard."""

    language: Language = Field("", description="Language of the audio; empty: the model says which it hears")
    context: str = Field("", max_length=10_000, description="Names, terms or a topic to expect, in any words")
