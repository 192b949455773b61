"""The log-mel that inference uses, batched: NeMo's, by transformers, with bf16-rounded tables."""

from __future__ import annotations

import torch
from transformers import ParakeetFeatureExtractor

N_MELS = 128


class LogMel(ParakeetFeatureExtractor):  # type: ignore[misc]
    """`ParakeetFeatureExtractor` with filterbank and window as a bf16 checkpoint holds them.

    The published layout stores both in bf16, and inference uses the stored ones; training on
    others would shift the features (by 0.4 in the embeddings, for the window).
    """

    def __init__(self) -> None:
        super().__init__(feature_size=N_MELS)
        self.mel_filters: torch.Tensor = self.mel_filters.to(torch.bfloat16).float()
        self.window = torch.hann_window(self.win_length, periodic=False).to(torch.bfloat16).float()

    def _torch_extract_fbank_features(self, waveform: torch.Tensor, device: str | torch.device = "cpu") -> torch.Tensor:
        # As in the parent, with the window given. (B, S) -> (B, T, n_mels)
        stft = torch.stft(
            waveform,
            self.n_fft,
            hop_length=self.hop_length,
            win_length=self.win_length,
            window=self.window.to(waveform.device),
            return_complex=True,
            pad_mode="constant",
        )
        magnitudes = torch.sqrt(torch.view_as_real(stft).pow(2).sum(-1)).pow(2)
        mel = torch.log(self.mel_filters.to(waveform.device) @ magnitudes + 2**-24)
        return mel.permute(0, 2, 1)

    def features(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Right-padded waveforms (B, S) and lengths (B,) -> features (B, T, n_mels), mask (B, T) bool.

        The parent's `__call__` without its lists of arrays, so that a batch stays on the GPU.
        """
        inside = torch.arange(wav.shape[1], device=wav.device)[None] < lengths[:, None]
        wav = torch.cat([wav[:, :1], wav[:, 1:] - self.preemphasis * wav[:, :-1]], dim=1).masked_fill(~inside, 0.0)
        mel = self._torch_extract_fbank_features(wav)
        frames = lengths // self.hop_length
        mask = torch.arange(mel.shape[1], device=wav.device)[None] < frames[:, None]
        keep = mask[:, :, None]
        count = frames[:, None, None]
        mean = (mel * keep).sum(1, keepdim=True) / count
        variance = ((mel - mean) ** 2 * keep).sum(1, keepdim=True) / (count - 1).clamp(min=1)
        return (mel - mean) / (variance.sqrt() + 1e-5) * keep, mask
