"""The components of Voxtral but its LLM: two prompt templates of its own, and the factories.

The prompts: the transcription mode, and a question about the audio.
Source: mistral-common 1.13 `tokens/tokenizers/instruct.py`, `encode_transcription` and a user message with audio.
"""

from __future__ import annotations

from canary_hub.models.families.projector import FrameProjector, build_projector
from canary_hub.models.families.whisper import WhisperEncoder, WhisperLogMel, build_encoder, build_log_mel
from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Build, Segment, Text

from .plugin import FAMILY, InstructPromptCall, TranscribePromptCall


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


def log_mel(build: Build) -> WhisperLogMel:
    """Whisper's front end over the whole clip, padded to a multiple of 30 s."""
    return build_log_mel(build, FAMILY, joined=True)


def encoder(build: Build) -> WhisperEncoder:
    """Whisper's encoder as it is: 50 frames a second, the silence behind the audio heard like the audio."""
    return build_encoder(build, FAMILY, pooled=False, masked=False)


def projector(build: Build) -> FrameProjector:
    """Four frames joined, then two linear layers."""
    return build_projector(build, FAMILY)


def prompt(build: Build) -> TranscribePrompt:
    """The prompt template of the transcription mode."""
    return TranscribePrompt()


def instruct_prompt(build: Build) -> InstructPrompt:
    """The prompt template for questions."""
    return InstructPrompt()
