"""Component librosa/log-mel: the features of canary/log-mel by librosa alone, from the config.

No tensor of the checkpoint is read: librosa's mel filters and scipy's symmetric Hann window, rounded to bfloat16 as the
published file stores them, equal the file's bit for bit, and features agree to 5e-4 on speech (in units of
their standard deviation). A window left in float32 moves them by 0.2 to 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.signal
import torch
from librosa import stft
from librosa.effects import preemphasis
from librosa.filters import mel

from ...stages import Build
from .layout import number, size
from .log_mel import LOG_ZERO_GUARD, settings

Floats = npt.NDArray[np.float32]

_STD_GUARD = 1e-5  # NeMo's CONSTANT, added to the standard deviation


@dataclass(frozen=True)
class LibrosaLogMel:
    """(B, S) waveforms -> (B, n_mels, T) log-mel in float32 on the CPU, T = S // hop + 1.

    A clip of n samples has n // hop valid frames, the rest is zero, as in canary/log-mel.

    mel: (n_mels, n_fft // 2 + 1). window: in samples, at most n_fft of them. hop: samples per frame.
    """

    mel: Floats
    window: Floats
    hop: int
    preemphasis: float

    @property
    def nbytes(self) -> int:
        """Bytes of filterbank and window."""
        return self.mel.nbytes + self.window.nbytes

    def __call__(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S) float32, (B,) -> features (B, n_mels, T), lengths (B,)."""
        clips = [row[:n].numpy() for row, n in zip(wav.cpu(), lengths.tolist(), strict=True)]
        features = torch.zeros(len(clips), len(self.mel), max(map(len, clips)) // self.hop + 1)
        frames = [len(clip) // self.hop for clip in clips]
        for i, (clip, n) in enumerate(zip(clips, frames, strict=True)):
            if n > 1:  # one frame has no variance: NeMo gives 0
                features[i, :, :n] = torch.from_numpy(self._features(clip, n))
        return features, torch.tensor(frames)

    def _features(self, clip: Floats, n: int) -> Floats:
        """(S,) -> (n_mels, n), every mel bin with mean 0 and (unbiased) standard deviation 1."""
        # zi = 0 keeps the first sample as it is; librosa's default extrapolates one before it.
        clip = preemphasis(clip, coef=self.preemphasis, zi=np.zeros(1, np.float32))
        n_fft = 2 * (self.mel.shape[1] - 1)
        spectrum = stft(
            np.pad(clip, n_fft // 2),  # not center=True: it warns about clips shorter than n_fft
            n_fft=n_fft,
            hop_length=self.hop,
            win_length=len(self.window),
            window=self.window,
            center=False,
        )
        log_mel = np.log(self.mel @ (np.abs(spectrum[:, :n]) ** 2) + LOG_ZERO_GUARD)
        spread = log_mel.std(axis=1, ddof=1, keepdims=True) + _STD_GUARD
        normal: Floats = (log_mel - log_mel.mean(axis=1, keepdims=True)) / spread
        return normal


def _bfloat16(values: npt.NDArray[Any]) -> Floats:
    rounded: Floats = torch.from_numpy(values).bfloat16().float().numpy()
    return rounded


def build(build: Build) -> LibrosaLogMel:
    """Factory. Raises: WeightsError for a preprocessor config it does not compute."""
    pre = settings(build, "librosa/log-mel")
    rate, n_fft = size(pre, "sample_rate"), size(pre, "n_fft")
    window = scipy.signal.get_window("hann", round(number(pre, "window_size") * rate), fftbins=False)
    return LibrosaLogMel(
        mel=_bfloat16(mel(sr=rate, n_fft=n_fft, n_mels=size(pre, "features"))),
        window=_bfloat16(window),
        hop=round(number(pre, "window_stride") * rate),
        preemphasis=float(pre.get("preemph", 0.97)),
    )
