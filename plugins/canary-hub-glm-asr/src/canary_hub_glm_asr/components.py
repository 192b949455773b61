"""The factories of the GLM-ASR components."""

from __future__ import annotations

from canary_hub.models.causal_lm.backend import CausalLMBackend
from canary_hub.models.families.backend import build_llm
from canary_hub.models.families.parts import Parts
from canary_hub.models.families.projector import FrameProjector, build_projector
from canary_hub.models.families.whisper import WhisperLogMel, build_log_mel
from canary_hub.stages import Build

from .encoder import GlmAsrAudioEncoder
from .family import FAMILY
from .prompts import TranscribePrompt


def log_mel(build: Build) -> WhisperLogMel:
    """Whisper's front end, each window of 30 s alone."""
    return build_log_mel(build, FAMILY)


def encoder(build: Build) -> GlmAsrAudioEncoder:
    """A Whisper encoder with rotary positions."""
    return GlmAsrAudioEncoder(Parts(build, FAMILY).encoder())


def projector(build: Build) -> FrameProjector:
    """Four frames joined, then two linear layers."""
    return build_projector(build, FAMILY)


def prompt(build: Build) -> TranscribePrompt:
    """The prompt template."""
    return TranscribePrompt()


def llm(build: Build) -> CausalLMBackend:
    """The GLM (1.5B) inside GLM-ASR, whose module in transformers is Llama's."""
    return build_llm(build, FAMILY)
