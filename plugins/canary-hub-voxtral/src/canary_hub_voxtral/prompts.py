"""The prompt templates of Voxtral: its transcription mode, and a question about the audio.

Source: mistral-common 1.13 `tokens/tokenizers/instruct.py`, `encode_transcription` and a user message with audio.
"""

from __future__ import annotations

from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Build, Segment, Text

from .options import InstructPromptCall, TranscribePromptCall


def _user(content: list[Segment]) -> list[Segment]:
    return [
        Text("<s>", control=True),
        Text("[INST]", control=True),
        Text("[BEGIN_AUDIO]", control=True),
        AudioSlot(),
        *content,
        Text("[/INST]", control=True),
    ]


class TranscribePrompt:
    """Component voxtral/transcribe-prompt: the audio, its language where it is known, and the mark for a transcript."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `TranscribePromptCall` options."""
        assert isinstance(options, TranscribePromptCall)
        known: list[Segment] = [Text(f"lang:{options.language}")] if options.language else []
        return [*_user([]), *known, Text("[TRANSCRIBE]", control=True)]


class InstructPrompt:
    """Component voxtral/instruct-prompt: the audio and then what is asked."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `InstructPromptCall` options."""
        assert isinstance(options, InstructPromptCall)
        return _user([Text(options.instruction)])


def build_instruct(build: Build) -> InstructPrompt:
    """Factory of voxtral/instruct-prompt."""
    return InstructPrompt()
