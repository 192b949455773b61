"""Resampling to the model's rate, equal to what NeMo's loader gives the model."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .waveform import Samples

FINEST = 50_000
"""Longest period of the filter, in samples of the faster rate: about a million taps. Every rate in use needs less
than a tenth; 767,999 Hz to 16 kHz, exactly, would take fifteen million taps and 1.6 GB."""


class Resampler:
    """`scipy.signal.resample_poly` with its defaults, block by block: memory stays small for hours of audio.

    That is what lhotse, NeMo's loader, computes where torchaudio is not installed (lhotse 1.33,
    augmentation/torchaudio.py), and what the reference waveforms in tests/oracle hold. As in lhotse,
    S samples give round_half_up(S * target / source), here at least one. Where source and target have a
    period beyond `FINEST`, the nearest ratio within it is taken, which is off by 1e-5 at most.
    """

    def __init__(self, source: int, target: int) -> None:
        """Prepare the filter for `source` -> `target` Hz."""
        import numpy as np

        slow, fast = sorted((source, target))
        ratio = Fraction(slow, fast).limit_denominator(FINEST)
        slow, fast = ratio.numerator, ratio.denominator
        self.up, self.down = (slow, fast) if target < source else (fast, slow)
        self._reach = 10 * fast  # in ticks of the grid both rates share: `up` of them between two inputs
        ticks = np.arange(-self._reach, self._reach + 1) / fast
        taps: NDArray[np.float64] = np.sinc(ticks) * np.kaiser(len(ticks), 5.0)
        gain = self.up / float(taps.sum())
        self._filter: Samples = (taps * gain).astype(np.float32)
        self._held: Samples = np.zeros(0, np.float32)  # inputs from index _first on
        self._first = self._taken = self._given = 0

    def feed(self, samples: Samples) -> Samples:
        """Take the next samples (S,), give the outputs that no later input can change."""
        import numpy as np

        self._taken += len(samples)
        if self.up == self.down:
            self._given += len(samples)
            return samples
        self._held = np.concatenate([self._held, samples]) if len(self._held) else samples
        return self._advance(-((self._reach - self._taken * self.up) // self.down))

    def finish(self) -> Samples:
        """Give the outputs that are left, as if zeros followed the last input."""
        total = (2 * self._taken * self.up + self.down) // (2 * self.down)
        return self._advance(max(total, min(self._taken, 1)))

    def _advance(self, until: int) -> Samples:
        """Outputs from the next one up to index `until`; drops the inputs no longer needed."""
        import numpy as np

        count = until - self._given
        if count <= 0:
            return np.zeros(0, np.float32)
        from scipy.signal import upfirdn  # type: ignore[import-untyped, unused-ignore]

        # Output m is the sum over inputs n of filter[reach + m*down - n*up]. Zeros in front of the
        # filter bring the next output onto a multiple of `down`, where upfirdn takes its outputs.
        lead = self._reach + self._given * self.down - self._first * self.up
        zeros = -lead % self.down
        skip = (lead + zeros) // self.down
        taps = np.concatenate([np.zeros(zeros, np.float32), self._filter])
        out = upfirdn(taps, self._held, self.up, self.down)[skip : skip + count]
        self._given = until
        needed = max(self._first, -((self._reach - until * self.down) // self.up))
        self._held = self._held[needed - self._first :].copy()
        self._first = needed
        return out  # type: ignore[no-any-return, unused-ignore]
