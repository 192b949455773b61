"""The components of Granite Speech but its LLM, and their factories."""

from __future__ import annotations

from typing import Any

import torch
from transformers.audio_utils import mel_filter_bank

from canary_hub.models.cpu import forward_pass
from canary_hub.models.families.parts import Parts
from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Build, Segment, Text
from canary_hub.weights.tensors import module_bytes, parameter_count

from .plugin import FAMILY, SpeechPromptCall

RATE, N_FFT, WINDOW, HOP = 16000, 512, 400, 160
STACKED = 2
"""Mel frames in one feature frame."""


class LogMel:
    """(B, S) waveforms -> (B, 2 * n_mels, T) log-mel in float32 on the CPU, T = (S // 160 + 1) // 2.

    What GraniteSpeechFeatureExtractor computes, without torchaudio. Each clip is computed alone: its loudest point
    sets its floor, and nothing else hears it.

    Source: transformers 5.23 `feature_extraction_granite_speech.py` and torchaudio's MelSpectrogram with its defaults
    (periodic Hann window, reflected edges, power 2, HTK mel scale without normalisation).
    """

    def __init__(self, features: int) -> None:
        bank = mel_filter_bank(
            num_frequency_bins=N_FFT // 2 + 1,
            num_mel_filters=features // STACKED,
            min_frequency=0.0,
            max_frequency=RATE / 2,
            sampling_rate=RATE,
            norm=None,
            mel_scale="htk",
        )
        self.filters = torch.from_numpy(bank).float().T
        self.window = torch.hann_window(WINDOW)
        self.nbytes = self.filters.nbytes + self.window.nbytes

    @torch.inference_mode()
    def __call__(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S) float32, (B,) -> features (B, 2 * n_mels, T), lengths (B,)."""
        rows = [self._clip(row[:n].float()) for row, n in zip(wav.cpu(), lengths.tolist(), strict=True)]
        features = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).transpose(1, 2)
        return features, torch.tensor([len(row) for row in rows])

    def _clip(self, samples: torch.Tensor) -> torch.Tensor:
        """(S,) -> (T, 2 * n_mels)."""
        if len(samples) <= N_FFT // 2:  # too short to be reflected at its edges: less than one feature frame
            return torch.zeros(0, STACKED * len(self.filters))
        spectrum = torch.stft(samples, N_FFT, HOP, WINDOW, self.window, pad_mode="reflect", return_complex=True)
        mel = (self.filters @ spectrum.abs().pow(2)).T
        log = mel.clamp(min=1e-10).log10()
        log = torch.maximum(log, log.max() - 8.0) / 4 + 1
        even = len(log) // STACKED * STACKED
        return log[:even].reshape(-1, STACKED * len(self.filters))


class GraniteConformer:
    """(B, F, T) -> (B, T, d_model): one vector for each feature frame, attention in blocks of 4 s.

    The module takes no mask, and in a batch its convolutions and attention would hear the padding of shorter
    clips: so every clip goes through alone.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        weight = module.input_linear.weight
        self.dtype, self.device = weight.dtype, weight.device

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, F, T), (B,) -> hidden (B, T, d_model), lengths (B,)."""
        x = features.to(self.device, self.dtype).transpose(1, 2)
        rows = []
        for row, n in zip(x, lengths.tolist(), strict=True):
            if not n:
                rows.append(x.new_zeros(0, self.module.config.hidden_dim))
                continue
            with forward_pass():
                rows.append(self.module(row[None, :n]).last_hidden_state[0])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


class QFormerProjector:
    """(B, N, d_model) -> (B, M, H): 3 audio embeddings for every block of 15 frames begun.

    The last block is filled up with zeros, so the last embeddings of a clip may cover less than `frame_seconds`.
    """

    def __init__(self, module: Any, frame_seconds: float) -> None:
        self.module = module
        self.block: int = module.window_size
        self.queries: int = module.num_queries
        self.frame_seconds = frame_seconds
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        self.dtype, self.device = module.linear.weight.dtype, module.linear.weight.device

    @torch.inference_mode()
    def __call__(self, hidden: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N, d_model), (B,) -> embeds (B, M, H), lengths (B,)."""
        x = hidden.to(self.device, self.dtype)
        if not x.shape[1]:
            return x.new_zeros(len(x), 0, self.module.linear.out_features), lengths
        heard = torch.arange(x.shape[1]) < lengths.cpu()[:, None]
        x = x * heard[..., None].to(x)  # as the module fills up the last block of a clip that is alone
        with forward_pass():
            embeds = self.module(x)
        return embeds, (lengths + self.block - 1) // self.block * self.queries


def turn(role: str, content: list[Segment]) -> list[Segment]:
    """A whole turn of a role."""
    return [*_start(role), *content, Text("<|end_of_text|>", control=True), Text("\n")]


def _start(role: str) -> list[Segment]:
    return [Text("<|start_of_role|>", control=True), Text(role), Text("<|end_of_role|>", control=True)]


def answer(turns: list[Segment]) -> list[Segment]:
    """The turns, and the start of the assistant's."""
    return [*turns, *_start("assistant")]


class SpeechPrompt:
    """A system turn, and "{audio}{instruction}" as the user's.

    Source: the model card and chat template of ibm-granite/granite-speech-3.3-8b.
    """

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `SpeechPromptCall` options."""
        assert isinstance(options, SpeechPromptCall)
        user = turn("user", [AudioSlot(), Text(options.instruction)])
        return answer([*turn("system", [Text(options.system)]), *user])


def log_mel(build: Build) -> LogMel:
    """80 mel bins, two frames stacked."""
    return LogMel(FAMILY.n_mels.of(build.weights[FAMILY.role].config))


def encoder(build: Build) -> GraniteConformer:
    """A conformer with block attention."""
    return GraniteConformer(Parts(build, FAMILY).encoder())


def projector(build: Build) -> QFormerProjector:
    """A Q-Former over blocks of frames."""
    return QFormerProjector(Parts(build, FAMILY).projector(), FAMILY.merge / FAMILY.hidden_hz)


def prompt(build: Build) -> SpeechPrompt:
    """The prompt template."""
    return SpeechPrompt()
