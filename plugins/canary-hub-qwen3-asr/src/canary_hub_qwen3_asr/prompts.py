"""Component qwen3-asr/transcribe-prompt: context as the system message, the audio alone as the user's.

Source: the chat template of Qwen3-ASR and `apply_transcription_request` in transformers 5.23
`processing_qwen3_asr.py`: a known language is written in front of the answer, which then is only the text.
"""

from __future__ import annotations

from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Build, Segment, Text

from .options import TranscribePromptCall

ASR_TEXT = "<asr_text>"
"""Stands between the language and the transcript in an answer."""


class TranscribePrompt:
    """A system turn with the context (or empty), a user turn with the audio, and the answer's beginning."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `TranscribePromptCall` options."""
        assert isinstance(options, TranscribePromptCall)
        known: list[Segment] = [Text(f"language {options.language}"), Text(ASR_TEXT, control=True)]
        return [
            Text("<|im_start|>", control=True),
            Text("system\n"),
            Text(options.context),
            Text("<|im_end|>", control=True),
            Text("\n"),
            Text("<|im_start|>", control=True),
            Text("user\n"),
            Text("<|audio_start|>", control=True),
            AudioSlot(),
            Text("<|audio_end|>", control=True),
            Text("<|im_end|>", control=True),
            Text("\n"),
            Text("<|im_start|>", control=True),
            Text("assistant\n"),
            *(known if options.language else []),
        ]


def build(build: Build) -> TranscribePrompt:
    """Factory."""
    return TranscribePrompt()
