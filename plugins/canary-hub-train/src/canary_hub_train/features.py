"""The log-mel that inference uses, batched: NeMo's, by transformers, with bf16-rounded tables."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from transformers import ParakeetFeatureExtractor
from transformers.audio_utils import hertz_to_mel, mel_to_hertz

N_MELS = 128
_ENVELOPE = 24
"""Cosines over the mel axis that make the envelope of a log-mel frame; what is finer is the voice's harmonics."""


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
        power = stft.real.square() + stft.imag.square()
        return torch.log((self.mel_filters.to(waveform.device) @ power).transpose(1, 2) + 2**-24)

    def features(
        self, wav: torch.Tensor, lengths: torch.Tensor, formants: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Right-padded waveforms (B, S) and lengths (B,) -> features (B, T, n_mels), mask (B, T) bool.

        The parent's `__call__` without its lists of arrays, so that a batch stays on the GPU.

        Args:
            formants: factors (B,) by which the formants are moved, the pitch kept (`moved_formants`); None for none.
        """
        inside = torch.arange(wav.shape[1], device=wav.device)[None] < lengths[:, None]
        wav = torch.cat([wav[:, :1], wav[:, 1:] - self.preemphasis * wav[:, :-1]], dim=1).masked_fill(~inside, 0.0)
        mel = self._torch_extract_fbank_features(wav)
        if formants is not None:
            mel = mel @ moved_formants(formants).to(mel)
        frames = lengths // self.hop_length
        mask = torch.arange(mel.shape[1], device=wav.device)[None] < frames[:, None]
        keep = mask[:, :, None]
        count = frames[:, None, None]
        mean = (mel * keep).sum(1, keepdim=True) / count
        variance = ((mel - mean) ** 2 * keep).sum(1, keepdim=True) / (count - 1).clamp(min=1)
        return (mel - mean) / (variance.sqrt() + 1e-5) * keep, mask


def moved_formants(factors: torch.Tensor) -> torch.Tensor:
    """Matrices (B, n_mels, n_mels): log-mel @ matrix has its formants `factors` (B,) times as high, the pitch kept.

    A shorter or longer vocal tract. The envelope over the mel axis (its first cosines) is stretched along the
    frequencies, the rest stays; both are linear in the log-mel, so one small matrix does it.
    """
    low_pass, centres = _axis()
    wanted = hertz_to_mel(mel_to_hertz(centres, "slaney")[None] / factors.cpu().double().numpy()[:, None], "slaney")
    at = torch.from_numpy((wanted - centres[0]) / (centres[1] - centres[0])).float().clamp(0, N_MELS - 1)
    low = at.floor().clamp(max=N_MELS - 2).long()
    share = (at - low)[:, :, None]
    eye = torch.eye(N_MELS)
    stretch = eye[low] * (1 - share) + eye[low + 1] * share
    return (eye + (stretch - eye) @ low_pass).transpose(1, 2)


@cache
def _axis() -> tuple[torch.Tensor, npt.NDArray[np.float64]]:
    """The projection on the envelope (n_mels, n_mels), and the bands' centres in mel (n_mels,)."""
    rows = torch.arange(_ENVELOPE)[:, None] * (torch.arange(N_MELS)[None] + 0.5)
    cosines = torch.cos(math.pi / N_MELS * rows)
    cosines = cosines / cosines.norm(dim=1, keepdim=True)
    return cosines.T @ cosines, np.linspace(0, hertz_to_mel(8000, "slaney"), N_MELS + 2)[1:-1]
