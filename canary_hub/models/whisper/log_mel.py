"""Whisper's log-mel: 80 or 128 bins, 100 frames a second, by transformers' own feature extractor."""

from __future__ import annotations

import torch
from transformers import WhisperFeatureExtractor

from ...stages import Build
from .checkpoint import WHISPER
from .options import WhisperLogMelBuild

SAMPLE_RATE = 16000
WINDOW = 30 * SAMPLE_RATE
"""Samples that a Whisper encoder hears at most."""

TAIL = 1 * SAMPLE_RATE
"""Samples of silence behind a clip: without any, the model is unsure where the speech ends."""


class ClipLogMel:
    """(B, S) waveforms -> (B, n_mels, T) log-mel in float32 on the CPU.

    Every clip is padded with silence alone, so that it does not depend on its batch: by `TAIL`, or to 30 s.
    """

    def __init__(self, n_mels: int, whole_window: bool) -> None:
        self.extractor = WhisperFeatureExtractor(feature_size=n_mels)
        self.whole_window = whole_window
        self.nbytes = self.extractor.mel_filters.nbytes

    @torch.inference_mode()
    def __call__(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S) float32, (B,) -> features (B, n_mels, T), lengths (B,): the silence behind a clip is counted."""
        rows = [self._clip(row[:n]) for row, n in zip(wav.cpu(), lengths.tolist(), strict=True)]
        features = torch.nn.utils.rnn.pad_sequence([row.T for row in rows], batch_first=True).transpose(1, 2)
        return features, torch.tensor([row.shape[1] for row in rows])

    def _clip(self, samples: torch.Tensor) -> torch.Tensor:
        """(S,) -> (n_mels, T), T even: the encoder takes every other frame."""
        if not len(samples):
            return torch.zeros(self.extractor.feature_size, 0)
        pair = 2 * self.extractor.hop_length
        size = WINDOW if self.whole_window else min(WINDOW, -(-(len(samples) + TAIL) // pair) * pair)
        out = self.extractor(
            [samples.numpy()], sampling_rate=SAMPLE_RATE, max_length=size, padding="max_length", return_tensors="pt"
        )
        features: torch.Tensor = out["input_features"][0]
        return features


def build(build: Build) -> ClipLogMel:
    """Factory of whisper/log-mel. Raises: WeightsError."""
    assert isinstance(build.options, WhisperLogMelBuild)
    return ClipLogMel(int(build.weights[WHISPER].config["num_mel_bins"]), build.options.whole_window)
