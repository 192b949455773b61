"""Component qwen3-asr/log-mel: transformers' Qwen3ASRFeatureExtractor, one clip at a time."""

from __future__ import annotations

import torch
from transformers import Qwen3ASRFeatureExtractor

from canary_hub.stages import Build

from .family import FAMILY, ROLE


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


def build(build: Build) -> LogMel:
    """Factory."""
    return LogMel(FAMILY.n_mels.of(build.weights[ROLE].config))
