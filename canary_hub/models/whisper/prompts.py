"""Whisper's prompt: the audio, then the control tokens that say what to write.

Source: openai/whisper tokenizer.py, `sot_sequence`. The audio stands first here because it is read from outside the
sequence; the tokens behind it are the decoder's own.
"""

from __future__ import annotations

from ...specs import Options
from ...stages import AudioSlot, Build, Segment, Text
from .options import EnglishPromptCall, MultilingualPromptCall

START = "<|startoftranscript|>"
WITHOUT_TIMES = "<|notimestamps|>"


class WhisperPrompt:
    """The audio, start, for a model of many languages language and task, and whether times are wanted."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `EnglishPromptCall` or `MultilingualPromptCall` options."""
        assert isinstance(options, EnglishPromptCall)
        control = [START]
        if isinstance(options, MultilingualPromptCall):
            control += [f"<|{options.language}|>", f"<|{options.task}|>"]
        if not options.timestamps:
            control.append(WITHOUT_TIMES)
        return [AudioSlot(), *(Text(token, control=True) for token in control)]


def build(build: Build) -> WhisperPrompt:
    """Factory of whisper/prompt and whisper/prompt-multilingual."""
    return WhisperPrompt()
