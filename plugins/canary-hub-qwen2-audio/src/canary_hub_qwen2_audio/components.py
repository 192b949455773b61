"""The components of Qwen2-Audio: a prompt template of its own, and the factories.

The prompt: the audio, numbered, and then what is asked.
Source: the chat template in transformers 5.23 `processing_qwen2_audio.py`.
"""

from __future__ import annotations

from canary_hub.models.causal_lm.backend import CausalLMBackend
from canary_hub.models.families.backend import build_llm
from canary_hub.models.families.projector import FrameProjector, build_projector
from canary_hub.models.families.whisper import WhisperEncoder, WhisperLogMel, build_encoder, build_log_mel
from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Build, Segment, Text

from .plugin import FAMILY, AudioPromptCall


class AudioPrompt:
    """A system turn, and "Audio 1: {audio}" with the instruction on the next line as the user's."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `AudioPromptCall` options."""
        assert isinstance(options, AudioPromptCall)
        return [
            Text("<|im_start|>", control=True),
            Text("system\n"),
            Text(options.system),
            Text("<|im_end|>", control=True),
            Text("\n"),
            Text("<|im_start|>", control=True),
            Text("user\nAudio 1: "),
            Text("<|audio_bos|>", control=True),
            AudioSlot(),
            Text("<|audio_eos|>", control=True),
            Text("\n"),
            Text(options.instruction),
            Text("<|im_end|>", control=True),
            Text("\n"),
            Text("<|im_start|>", control=True),
            Text("assistant\n"),
        ]


def log_mel(build: Build) -> WhisperLogMel:
    """Whisper's front end, each window of 30 s alone."""
    return build_log_mel(build, FAMILY)


def encoder(build: Build) -> WhisperEncoder:
    """Whisper's encoder with averaged pairs of frames, the padding masked."""
    return build_encoder(build, FAMILY, pooled=True, masked=True)


def projector(build: Build) -> FrameProjector:
    """One linear layer."""
    return build_projector(build, FAMILY)


def prompt(build: Build) -> AudioPrompt:
    """The prompt template."""
    return AudioPrompt()


def llm(build: Build) -> CausalLMBackend:
    """The Qwen (7B) inside Qwen2-Audio."""
    return build_llm(build, FAMILY)
