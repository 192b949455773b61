"""Component granite-speech/log-mel: what GraniteSpeechFeatureExtractor computes, without torchaudio.

Source: transformers 5.23 `feature_extraction_granite_speech.py` and torchaudio's MelSpectrogram with its defaults
(periodic Hann window, reflected edges, power 2, HTK mel scale without normalisation).
"""

from __future__ import annotations

import torch
from transformers.audio_utils import mel_filter_bank

RATE, N_FFT, WINDOW, HOP = 16000, 512, 400, 160
STACKED = 2
"""Mel frames in one feature frame."""


class LogMel:
    """(B, S) waveforms -> (B, 2 * n_mels, T) log-mel in float32 on the CPU, T = (S // 160 + 1) // 2.

    Each clip is computed alone: its loudest point sets its floor, and nothing else hears it.
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
