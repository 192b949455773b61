"""Component qwen3-asr/projector: two linear layers into the LLM's space."""

from __future__ import annotations

from canary_hub.models.families.projector import FrameProjector, build_projector
from canary_hub.stages import Build

from .family import FAMILY


def build(build: Build) -> FrameProjector:
    """Factory."""
    return build_projector(build, FAMILY)
