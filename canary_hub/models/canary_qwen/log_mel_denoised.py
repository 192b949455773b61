"""Component canary/denoise-log-mel: a spectral gate, then canary/log-mel.

The noise of each frequency is taken from its quietest tenth of the clip (Stahl, Fischer and Bippus, "Quantile
based noise estimation", ICASSP 2000), then a Wiener gain is applied where the power, averaged over a small
patch of time and frequency, stands little above it. noisereduce was tried: it sets its threshold from the
whole clip, speech included, which on clips of a few seconds removes speech too.

Word errors of the first nano, which knew little but digits, on 80 synthetic strings in percent, without -> with: white
noise at 0 dB 28 -> 22, a fan at 0 dB 33 -> 20, pink noise at 5 dB 7 -> 5, next to no noise 0.6 -> 0.3. Noise that
swells is made worse (20 -> 25), voices in the background are left (72 -> 71).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool1d, avg_pool2d

from ...stages import Build
from . import log_mel
from .log_mel import LogMel
from .options import DenoiseLogMelBuild

_SIZE, _HOP = 512, 128  # 32 and 8 ms at 16 kHz
_QUIET = 0.1
_OVER = 2.0  # the quietest tenth lies below the mean of the noise
_AVERAGE = 9  # frames that the noise is measured over, so that no single lucky frame counts as quiet
_PATCH = (5, 7)  # bins, frames: single bins alone would be let through at random ("musical noise")
_TINY = 1e-12


def spectral_gate(clip: torch.Tensor, strength: float) -> torch.Tensor:
    """(S,) float32 -> (S,): steady noise turned down, by a factor of 1 - strength at most."""
    window = torch.hann_window(_SIZE)
    spectrum = torch.stft(clip, _SIZE, _HOP, window=window, pad_mode="constant", return_complex=True)
    power = spectrum.abs().square()
    steady = avg_pool1d(power[:, None], _AVERAGE, 1, _AVERAGE // 2, count_include_pad=False)[:, 0]
    noise = _OVER * steady.quantile(_QUIET, dim=1, keepdim=True) + _TINY
    padding = (_PATCH[0] // 2, _PATCH[1] // 2)
    around = avg_pool2d(power[None], _PATCH, 1, padding, count_include_pad=False)[0]
    gain = (1 - noise / around).clamp(min=1 - strength)
    return torch.istft(spectrum * gain, _SIZE, _HOP, window=window, length=len(clip))


@dataclass(frozen=True)
class DenoiseLogMel:
    """(B, S) waveforms -> (B, n_mels, T) log-mel of the gated waveforms, shaped as canary/log-mel does.

    strength: 0 leaves the audio as it is, 1 may mute noise altogether.
    """

    log_mel: LogMel
    strength: float

    @property
    def nbytes(self) -> int:
        """Bytes of filterbank and window."""
        return int(self.log_mel.nbytes)

    @torch.inference_mode()
    def __call__(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S) float32, (B,) -> features (B, n_mels, T), lengths (B,)."""
        if self.strength:
            gated = wav.cpu().clone()
            for row, n in zip(gated, lengths.tolist(), strict=True):  # one by one: padding is no noise
                if n:
                    row[:n] = spectral_gate(row[:n], self.strength)
            wav = gated
        return self.log_mel(wav, lengths)


def build(build: Build) -> DenoiseLogMel:
    """Factory. Raises: WeightsError as canary/log-mel does."""
    assert isinstance(build.options, DenoiseLogMelBuild)
    return DenoiseLogMel(log_mel.build(build), build.options.strength)
