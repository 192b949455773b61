"""The components of GLM-ASR: an encoder and a prompt template of its own, and their factories.

The prompt: two user turns, the audio and what is asked.
Source: the chat template of zai-org/GLM-ASR-Nano-2512, in transformers' `convert_glmasr_weights_to_hf.py`.
"""

from __future__ import annotations

from typing import Any

import torch

from canary_hub.models.causal_lm.backend import CausalLMBackend
from canary_hub.models.cpu import forward_pass
from canary_hub.models.families.backend import build_llm
from canary_hub.models.families.parts import Parts
from canary_hub.models.families.projector import FrameProjector, build_projector
from canary_hub.models.families.whisper import WhisperLogMel, build_log_mel, fold
from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Build, Segment, Text
from canary_hub.weights.tensors import module_bytes, parameter_count

from .plugin import FAMILY, TranscribePromptCall


class GlmAsrAudioEncoder:
    """(B, n_mels, T) -> (B, N, d_model), 50 vectors a second.

    It masks nothing: the silence that fills a window up to 30 s is heard, but its vectors are left out.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        self.dtype, self.device = module.conv1.weight.dtype, module.conv1.weight.device

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n_mels, T), (B,) -> hidden (B, N, d_model), lengths (B,)."""
        windows = fold(features.to(self.device, self.dtype), lengths.cpu())
        with forward_pass():
            hidden = self.module(windows.features).last_hidden_state
        return windows.join(hidden, (windows.lengths - 1) // 2 + 1)


class TranscribePrompt:
    """Two user turns, without an end of turn, and the start of the assistant's."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `TranscribePromptCall` options."""
        assert isinstance(options, TranscribePromptCall)
        return [
            Text("<|user|>", control=True),
            Text("\n"),
            Text("<|begin_of_audio|>", control=True),
            AudioSlot(),
            Text("<|end_of_audio|>", control=True),
            Text("<|user|>", control=True),
            Text("\n"),
            Text(options.instruction),
            Text("<|assistant|>", control=True),
            Text("\n"),
        ]


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
