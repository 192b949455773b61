"""The Whisper front end and encoder that Qwen2-Audio, Voxtral and Audio Flamingo 3 share (GLM-ASR the front end).

Long audio is cut into windows of 30 s, which become rows of the batch and are joined again behind the encoder.

Their encoders are the same module with the same names and differ in two things: whether padding is masked, and
whether pairs of frames are averaged before the last norm (25 frames a second instead of 50).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import WhisperFeatureExtractor

from ...stages import Build
from ...weights.tensors import module_bytes, parameter_count
from ..cpu import forward_pass
from .family import SAMPLE_RATE, Family
from .parts import Parts

FRAMES = 3000
"""Feature frames in one window: 30 s, what a Whisper encoder hears at a time."""

WINDOW_SAMPLES = 30 * int(SAMPLE_RATE)


@dataclass(frozen=True)
class Windows:
    """All windows of a batch that hold any audio.

    features: (W, F, FRAMES).
    lengths: (W,) feature frames that are no padding; all but a row's last window are full.
    counts: (B,) windows of each row.
    """

    features: torch.Tensor
    lengths: torch.Tensor
    counts: torch.Tensor

    def join(self, hidden: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(W, N, D) and (W,) valid vectors of each window -> (B, M, D), lengths (B,).

        A row's windows stand one after the other, without their padding.
        """
        pieces = [window[:n] for window, n in zip(hidden, lengths.tolist(), strict=True)]
        rows, at = [], 0
        for count in self.counts.tolist():
            rows.append(torch.cat(pieces[at : at + count]) if count else hidden.new_zeros(0, hidden.shape[-1]))
            at += count
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def fold(features: torch.Tensor, lengths: torch.Tensor) -> Windows:
    """(B, F, T), (B,) -> the windows of each row, the last one as it was padded by the front end (with zeros where
    the front end did not pad to whole windows)."""
    counts = (lengths + FRAMES - 1) // FRAMES
    short = int(counts.max()) * FRAMES - features.shape[-1] if len(counts) else 0
    padded = torch.nn.functional.pad(features, (0, max(0, short)))
    windows, sizes = [], []
    for row, length, count in zip(padded, lengths.tolist(), counts.tolist(), strict=True):
        for i in range(count):
            windows.append(row[:, i * FRAMES : (i + 1) * FRAMES])
            sizes.append(min(FRAMES, length - i * FRAMES))
    stacked = torch.stack(windows) if windows else features.new_zeros(0, features.shape[1], FRAMES)
    return Windows(stacked, torch.tensor(sizes, dtype=torch.long), counts)


class WhisperLogMel:
    """(B, S) waveforms -> (B, n_mels, T) log-mel in float32 on the CPU, T a multiple of 3000 frames (30 s).

    Every clip is padded with silence to whole windows of 30 s, alone, so that it does not depend on its batch.

    joined: compute the log-mel of all windows at once (Voxtral): the loudest point sets the floor of the whole clip,
        and a frame at a border hears both sides. Else each window is computed alone (Audio Flamingo 3, GLM-ASR).
    """

    def __init__(self, n_mels: int, joined: bool = False) -> None:
        self.extractor = WhisperFeatureExtractor(feature_size=n_mels)
        self.joined = joined
        self.nbytes = self.extractor.mel_filters.nbytes

    @torch.inference_mode()
    def __call__(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S) float32, (B,) -> features (B, n_mels, T), lengths (B,): one frame for every 160 samples begun."""
        rows = [self._clip(row[:n]) for row, n in zip(wav.cpu(), lengths.tolist(), strict=True)]
        features = torch.nn.utils.rnn.pad_sequence([row.T for row in rows], batch_first=True).transpose(1, 2)
        hop = self.extractor.hop_length
        return features, (lengths.cpu() + hop - 1) // hop

    def _clip(self, samples: torch.Tensor) -> torch.Tensor:
        """(S,) -> (n_mels, T)."""
        if not len(samples):
            return torch.zeros(self.extractor.feature_size, 0)
        size = WINDOW_SAMPLES * -(-len(samples) // WINDOW_SAMPLES) if self.joined else WINDOW_SAMPLES
        pieces = [piece.numpy() for piece in torch.split(samples, size)]
        out = self.extractor(
            pieces, sampling_rate=self.extractor.sampling_rate, max_length=size, truncation=False, return_tensors="pt"
        )
        windows: torch.Tensor = out["input_features"]
        return torch.cat(list(windows), dim=-1)


class WhisperEncoder:
    """(B, n_mels, T) -> (B, N, d_model): every window of 30 s alone, then a row's windows joined.

    module: transformers' encoder; `conv1`, `conv2`, `embed_positions`, `layers`, `layer_norm` are used.
    pooled: pairs of frames are averaged before the last norm.
    masked: attention leaves out the padding, and so do the lengths; else a window is always 30 s of audio.
    """

    def __init__(self, module: Any, pooled: bool, masked: bool) -> None:
        self.module = module
        self.pooled, self.masked = pooled, masked
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)
        self.dtype, self.device = module.conv1.weight.dtype, module.conv1.weight.device

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n_mels, T), (B,) -> hidden (B, N, d_model), lengths (B,)."""
        windows = fold(features.to(self.device, self.dtype), lengths.cpu())
        heard = windows.lengths if self.masked else torch.full_like(windows.lengths, FRAMES)
        frames = (heard - 1) // 2 + 1  # the second convolution takes every other frame
        with forward_pass():
            hidden = self._encode(windows.features, frames.to(self.device))
        return windows.join(hidden, frames // 2 if self.pooled else frames)

    def _encode(self, features: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """(W, n_mels, 3000), (W,) -> (W, 750 or 1500, d_model)."""
        gelu = torch.nn.functional.gelu
        module = self.module
        x = gelu(module.conv2(gelu(module.conv1(features)))).transpose(1, 2)
        # Voxtral keeps its positions in float32, whatever the rest is in.
        x = (x + module.embed_positions.weight).to(x.dtype)
        mask = None
        if self.masked:
            mask = (torch.arange(x.shape[1], device=x.device) < frames[:, None])[:, None, None]
        for layer in module.layers:
            x = layer(x, mask)
        if self.pooled:
            x = torch.nn.functional.avg_pool1d(x.transpose(1, 2), 2).transpose(1, 2)
        out: torch.Tensor = module.layer_norm(x)
        return out


def build_log_mel(build: Build, family: Family, joined: bool = False) -> WhisperLogMel:
    """Whisper's front end with the mel bins that the family's config asks for."""
    return WhisperLogMel(family.n_mels.of(build.weights[family.role].config), joined)


def build_encoder(build: Build, family: Family, pooled: bool, masked: bool) -> WhisperEncoder:
    """The family's Whisper encoder with its checkpoint's weights. Raises: WeightsError."""
    parts = Parts(build, family)
    module = parts.encoder()
    if "embed_positions" in (type(parts.model)._keep_in_fp32_modules_strict or ()):
        positions = parts.files.tensor(f"{family.encoder}.embed_positions.weight")
        module.embed_positions.weight.data = positions.to(build.device, torch.float32)
    return WhisperEncoder(module, pooled, masked)
