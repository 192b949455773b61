"""The factories of the Qwen2-Audio components."""

from __future__ import annotations

from canary_hub.models.causal_lm.backend import CausalLMBackend
from canary_hub.models.families.backend import build_llm
from canary_hub.models.families.projector import FrameProjector, build_projector
from canary_hub.models.families.whisper import WhisperEncoder, WhisperLogMel, build_encoder, build_log_mel
from canary_hub.stages import Build

from .family import FAMILY
from .prompts import AudioPrompt


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
