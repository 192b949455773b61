"""The factories of the Voxtral components."""

from __future__ import annotations

from canary_hub.models.causal_lm.backend import CausalLMBackend
from canary_hub.models.families.backend import load_llm
from canary_hub.models.families.projector import FrameProjector, build_projector
from canary_hub.models.families.whisper import WhisperEncoder, WhisperLogMel, build_encoder, build_log_mel
from canary_hub.stages import Build

from .family import FAMILY, ROLE
from .prompts import TranscribePrompt


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


def llm(build: Build) -> CausalLMBackend:
    """The Ministral (3B) inside Voxtral, whose module in transformers is Llama's."""
    from .tokenizer import VoxtralTokenizer

    return CausalLMBackend(load_llm(build, FAMILY), VoxtralTokenizer(build.weights[ROLE]))
