"""The components of Qwen3-ASR, one stage after the other, each with its factory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Qwen3ASRFeatureExtractor

from canary_hub.errors import WeightsError
from canary_hub.models.causal_lm.backend import CausalLMBackend
from canary_hub.models.cpu import forward_pass
from canary_hub.models.families.backend import CausalLM, FamilyTokenizer, load_llm
from canary_hub.models.families.parts import Parts
from canary_hub.models.families.projector import FrameProjector, build_projector
from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Build, Segment, Text
from canary_hub.weights.tensors import module_bytes, parameter_count

from .plugin import CHUNK, CHUNK_FRAMES, FAMILY, TranscribePromptCall

ASR_TEXT = "<asr_text>"
"""Stands between the language and the transcript in an answer."""


class LogMel:
    """(B, S) waveforms -> (B, n_mels, T) log-mel in float32 on the CPU, T = S // 160.

    Clips shorter than 0.5 s are filled up with silence that counts as audio, as the model was trained. Each clip
    is computed alone: in a batch of transformers' processor the silence behind a shorter clip reaches its last
    frames.
    """

    def __init__(self, n_mels: int) -> None:
        self.extractor = Qwen3ASRFeatureExtractor(feature_size=n_mels)
        self.nbytes = self.extractor.mel_filters.nbytes

    @torch.inference_mode()
    def __call__(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S) float32, (B,) -> features (B, n_mels, T), lengths (B,); an empty clip stays empty."""
        rows = [self._clip(row[:n]) for row, n in zip(wav.cpu(), lengths.tolist(), strict=True)]
        features = torch.nn.utils.rnn.pad_sequence([row.T for row in rows], batch_first=True).transpose(1, 2)
        return features, torch.tensor([row.shape[1] for row in rows])

    def _clip(self, samples: torch.Tensor) -> torch.Tensor:
        """(S,) -> (n_mels, T); n_window=0 leaves the padding to whole chunks to the encoder."""
        if not len(samples):
            return torch.zeros(self.extractor.feature_size, 0)
        rate = self.extractor.sampling_rate
        out = self.extractor(samples.numpy(), sampling_rate=rate, padding="longest", n_window=0)
        features: torch.Tensor = out["input_features"][0]
        return features


def log_mel(build: Build) -> LogMel:
    """Factory of qwen3-asr/log-mel."""
    return LogMel(FAMILY.n_mels.of(build.weights[FAMILY.role].config))


class Qwen3ASRAudioEncoder:
    """(B, n_mels, T) -> (B, N, d_model): 13 vectors for every second, ceil(n / 8) for the n frames of the last.

    Attention sees windows of 8 s (`n_window_infer`), so memory is linear in the length.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        weight = module.conv2d1.weight
        self.dtype, self.device = weight.dtype, weight.device

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n_mels, T), (B,) -> hidden (B, N, d_model), lengths (B,)."""
        lengths = lengths.cpu()
        frames = lengths // CHUNK * CHUNK_FRAMES + (lengths % CHUNK + 7) // 8
        if not frames.any():
            return torch.zeros(len(features), 0, self.module.config.d_model, dtype=self.dtype), frames
        x = torch.nn.functional.pad(features, (0, -features.shape[-1] % CHUNK)).to(self.device, self.dtype)
        mask = torch.arange(x.shape[-1]) < lengths[:, None]
        # What follows a clip in its batch must not reach its last frames through the convolutions.
        x = x * mask[:, None].to(x)
        with forward_pass():
            packed = self.module(x, mask.long().to(self.device)).last_hidden_state
        rows = packed.split(frames.tolist())
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), frames


def encoder(build: Build) -> Qwen3ASRAudioEncoder:
    """Factory of qwen3-asr/encoder.

    Raises: WeightsError for a chunk length that the published checkpoints do not have.
    """
    parts = Parts(build, FAMILY)
    n_window = parts.config.audio_config.n_window
    if 2 * n_window != CHUNK:
        raise WeightsError(
            f"config.json asks for audio_config.n_window = {n_window}; qwen3-asr/encoder computes {CHUNK // 2} only.",
            "The length formula of Qwen3-ASR holds for chunks of one second.",
        )
    return Qwen3ASRAudioEncoder(parts.encoder())


def projector(build: Build) -> FrameProjector:
    """Factory of qwen3-asr/projector: two linear layers into the LLM's space."""
    return build_projector(build, FAMILY)


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


def prompt(build: Build) -> TranscribePrompt:
    """Factory of qwen3-asr/transcribe-prompt."""
    return TranscribePrompt()


class Qwen3ASRBackend(CausalLMBackend):
    """Writes "language English<asr_text>the transcript", or the transcript alone where the prompt says the language."""

    def __init__(self, model: CausalLM, tokenizer: FamilyTokenizer) -> None:
        super().__init__(model, tokenizer)
        self._asr_text = tokenizer.control_id(ASR_TEXT)

    def decode(self, ids: Sequence[int]) -> str:
        """New ids -> the transcript: what follows `<asr_text>`, or everything where there is none."""
        return super().decode(ids[self.left_out(ids) :])

    def left_out(self, ids: Sequence[int]) -> int:
        """The tokens that say the language."""
        return list(ids).index(self._asr_text) + 1 if self._asr_text in ids else 0


def llm(build: Build) -> Qwen3ASRBackend:
    """Factory of qwen3-asr/qwen3."""
    return Qwen3ASRBackend(load_llm(build, FAMILY), FamilyTokenizer(build.weights[FAMILY.role], FAMILY))
