"""The factories of the Audio Flamingo 3 components."""

from __future__ import annotations

from canary_hub.models.families.backend import FamilyTokenizer, load_llm
from canary_hub.models.families.projector import FrameProjector, build_projector
from canary_hub.models.families.whisper import WhisperEncoder, WhisperLogMel, build_encoder, build_log_mel
from canary_hub.stages import Build

from .family import FAMILY, ROLE
from .prompts import SoundPrompt
from .qwen2 import AudioFlamingoBackend


def log_mel(build: Build) -> WhisperLogMel:
    """Whisper's front end, each window of 30 s alone."""
    return build_log_mel(build, FAMILY)


def encoder(build: Build) -> WhisperEncoder:
    """Whisper's encoder with averaged pairs of frames, the padding masked."""
    return build_encoder(build, FAMILY, pooled=True, masked=True)


def projector(build: Build) -> FrameProjector:
    """Two linear layers."""
    return build_projector(build, FAMILY)


def prompt(build: Build) -> SoundPrompt:
    """The prompt template."""
    return SoundPrompt()


def llm(build: Build) -> AudioFlamingoBackend:
    """The Qwen2.5 (7B) inside Audio Flamingo 3."""
    return AudioFlamingoBackend(load_llm(build, FAMILY), FamilyTokenizer(build.weights[ROLE], FAMILY))
