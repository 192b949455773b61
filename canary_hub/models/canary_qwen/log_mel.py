"""Component canary/log-mel: transformers' ParakeetFeatureExtractor with the checkpoint's own buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import ParakeetFeatureExtractor

from ...errors import WeightsError
from ...stages import Build
from .checkpoint import CHECKPOINT, open_checkpoint
from .layout import FILTERBANK, WINDOW, get, number, size

LOG_ZERO_GUARD = 2**-24  # NeMo's `log_zero_guard_value`

# What NeMo's preprocessor can do besides these is not what the extractor computes.
_ONLY = {"window": "hann", "normalize": "per_feature", "log": True, "frame_splicing": 1, "pad_to": 0}


class _Extractor(ParakeetFeatureExtractor):  # type: ignore[misc, unused-ignore]
    """The parent with a given window: it would make a fresh float32 one on every call, while the
    file's is rounded to bfloat16, and that alone moves audio embeddings by up to 0.41."""

    window: torch.Tensor

    def _torch_extract_fbank_features(self, waveform: torch.Tensor, device: str = "cpu") -> torch.Tensor:
        """(B, S) -> (B, T, n_mels), as NeMo's FilterbankFeatures computes it."""
        spectrum = torch.stft(
            waveform,
            self.n_fft,
            hop_length=self.hop_length,
            win_length=self.win_length,
            window=self.window,
            return_complex=True,
            pad_mode="constant",
        )
        power = torch.view_as_real(spectrum).pow(2).sum(-1).sqrt().pow(2)  # sqrt and back: NeMo's rounding
        return torch.log(self.mel_filters @ power + LOG_ZERO_GUARD).transpose(1, 2)


class LogMel:
    """(B, S) waveforms -> (B, n_mels, T) log-mel in float32 on the CPU, T = S // hop + 1.

    A clip of n samples has n // hop valid frames: even alone, its last frame is padding.
    """

    def __init__(self, extractor: _Extractor) -> None:
        self.extractor = extractor
        self.nbytes = extractor.mel_filters.nbytes + extractor.window.nbytes

    @torch.inference_mode()
    def __call__(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S) float32, (B,) -> features (B, n_mels, T), lengths (B,)."""
        clips = [row[:n].numpy() for row, n in zip(wav.cpu(), lengths.tolist(), strict=True)]
        out = self.extractor(clips, sampling_rate=self.extractor.sampling_rate)
        features: torch.Tensor = out["input_features"].transpose(1, 2)
        frames: torch.Tensor = out["attention_mask"].sum(-1)
        # One frame has no variance: the parent divides 0 by 0 where NeMo gives 0.
        return features.masked_fill((frames < 2)[:, None, None], 0.0), frames


def settings(build: Build, component: str) -> Mapping[str, Any]:
    """The checkpoint's preprocessor settings. Raises: WeightsError for one that `component` does not compute."""
    pre: Mapping[str, Any] = get(build.weights[CHECKPOINT].config, "perception.preprocessor")
    for key, value in _ONLY.items():
        if pre.get(key, value) != value:
            raise WeightsError(
                f"config.json asks for preprocessor.{key} = {pre[key]!r}; {component} computes {value!r} only.",
                "Choose another preprocessor component, or retrain with that setting.",
            )
    if not 1 <= round(number(pre, "window_stride") * size(pre, "sample_rate")) <= size(pre, "sample_rate"):
        raise WeightsError(
            f"config.json has preprocessor.window_stride = {pre['window_stride']!r}, no step of a sample to a second.",
            "Was the file altered? Fetch it again from where the checkpoint was published.",
        )
    return pre


def build(build: Build) -> LogMel:
    """Factory. Raises: WeightsError for a preprocessor config this front end does not compute."""
    pre = settings(build, "canary/log-mel")
    files = open_checkpoint(build)
    rate = size(pre, "sample_rate")
    extractor = _Extractor(
        feature_size=size(pre, "features"),
        sampling_rate=rate,
        hop_length=round(number(pre, "window_stride") * rate),
        n_fft=size(pre, "n_fft"),
        win_length=round(number(pre, "window_size") * rate),
        preemphasis=number({"preemph": 0.97, **pre}, "preemph"),
    )
    extractor.mel_filters = files.tensor(FILTERBANK)[0].float()
    extractor.window = files.tensor(WINDOW).float()
    return LogMel(extractor)
