"""Component fake/preprocessor: the log power spectrum, 128 bands every 10 ms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Port, Stage
from canary_hub.stages import Build

if TYPE_CHECKING:
    import torch

CANARY_HUB_API = 2  # the version of hooks and specs that this is written for

RATE, BANDS, HOP = 16000, 128, 160
WINDOW = 2 * BANDS


class LogSpectrum:
    """(B, S) waveforms -> (B, 128, T) log power, T = S // 160; a frame past the end hears silence."""

    nbytes = 0

    def __call__(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S) float32, (B,) -> features (B, 128, T) float32, lengths (B,)."""
        import torch

        frames = lengths // HOP
        outside = torch.arange(wav.shape[1], device=wav.device) >= lengths[:, None]
        heard = torch.nn.functional.pad(wav.masked_fill(outside, 0.0), (0, WINDOW))
        windows = heard.unfold(1, WINDOW, HOP) * torch.hann_window(WINDOW, device=wav.device)
        power = torch.fft.rfft(windows).abs().square()[:, : int(frames.max()), 1:]
        return torch.log(power + 1e-6).transpose(1, 2), frames


def build(build: Build) -> LogSpectrum:
    """Factory, called on first use."""
    return LogSpectrum()


CONTRACT = Contract(
    accepts=(Port("audio", rate_hz=RATE, layout="B S"),),
    produces=(Port("features", dim=BANDS, rate_hz=RATE / HOP, layout="B F T"),),
)


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """What this plugin adds."""
    return [
        ComponentSpec(
            stage=Stage.PREPROCESSOR,
            id="fake/preprocessor",
            title="The log power spectrum, 128 bands every 10 ms",
            factory=f"{__name__}:build",
            contract=CONTRACT,
        )
    ]
