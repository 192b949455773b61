"""What audio is inside the package: mono samples with a rate and a name, and stretches of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples: TypeAlias = NDArray[np.float32]
    Blocks: TypeAlias = Iterator[tuple[int, Samples]]  # (sample rate, (frames, channels)), rate constant


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono audio: `samples` (S,) float32 at `rate` Hz, and the printable `name` of where it came from.

    Full scale is [-1, 1]; resampling or a float file can go slightly beyond and is not clipped.
    """

    samples: Samples
    rate: int
    name: str

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class Span:
    """A stretch of a waveform: samples `first` up to, not including, `stop`, at `rate` Hz."""

    first: int
    stop: int
    rate: int

    @property
    def start(self) -> float:
        """Start in seconds."""
        return self.first / self.rate

    @property
    def end(self) -> float:
        """End in seconds."""
        return self.stop / self.rate

    def of(self, wave: Waveform) -> Samples:
        """The span's samples (stop - first,): a view into `wave`."""
        return wave.samples[self.first : self.stop]


def printable(name: str) -> str:
    """`name` with control, bidirectional and undecodable characters escaped, cut to 120 characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name[:500])
    return shown if len(shown) <= 120 else f"{shown[:80]}...{shown[-37:]}"
