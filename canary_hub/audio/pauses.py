"""Where to cut long audio: at pauses, so that no piece is longer than what the model was trained on."""

from __future__ import annotations

from itertools import pairwise
from operator import index
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import OptionError, PluginError
from ..specs import ENERGY
from .waveform import Span

if TYPE_CHECKING:
    from .waveform import Samples, Waveform

SILENCE_DBFS = -60.0
"""Below this level (half the peak-to-peak swing, full scale is 0 dBFS) samples count as silent."""


@runtime_checkable
class Segmenter(Protocol):
    """Finds the pause at which long audio is cut.

    It only proposes a place; `split_at_pauses` makes the pieces from its answers, so that none can be lost or be
    longer than the window. It may be called from several threads at once.
    """

    def __call__(self, wave: Waveform, first: int, last: int) -> int:
        """The sample in [first, last] at which to cut `wave` (S,), 0 < first <= last < S: the piece before it ends
        there, the next begins with it."""
        ...


def is_silent(samples: Samples) -> bool:
    """Whether `samples` (S,) stay below `SILENCE_DBFS`; a constant offset does not count as sound."""
    if not len(samples):
        return True
    swing = (float(samples.max()) - float(samples.min())) / 2
    return swing < 10 ** (SILENCE_DBFS / 20)


def quietest(wave: Waveform, first: int, last: int) -> int:
    """The built-in segmenter: the sample in [first, last] around which it is quietest.

    That is where the RMS level smoothed over 250 ms is lowest; where it stays equally low, the middle of the last
    such stretch.
    """
    import numpy as np

    hop = max(1, wave.rate // 100)
    reach = 12  # hops on each side: 25 hops of 10 ms
    count = max(1, (last - first) // hop)
    begin = first - reach * hop
    # Outside the audio there is nothing to hear: pad with the edge's own neighbourhood, not with zeros.
    index_low, index_high = max(0, begin), min(len(wave.samples), begin + (count + 2 * reach) * hop)
    part = wave.samples[index_low:index_high]
    whole = part[: len(part) // hop * hop].reshape(-1, hop).astype(np.float64)
    power = np.einsum("ij,ij->i", whole, whole) / hop
    missing = count + 2 * reach - len(power)
    before = min(missing, -(-(index_low - begin) // hop))
    power = np.pad(power, (before, missing - before), mode="edge")
    total = np.concatenate([[0.0], np.cumsum(power)])
    level = (total[2 * reach + 1 :] - total[: -(2 * reach + 1)])[:count]
    low = level <= level.min() * 1.000001 + 1e-12
    stop = len(low) - int(low[::-1].argmax())  # the last equally quiet stretch ends before here
    earlier = np.flatnonzero(~low[:stop])
    start = int(earlier[-1]) + 1 if len(earlier) else 0
    return min(last, first + (start + stop) * hop // 2)


def build() -> Segmenter:
    """Factory of canary/energy, which holds nothing: the function itself."""
    return quietest


def split_at_pauses(
    wave: Waveform, window_seconds: float, segmenter: Segmenter = quietest, name: str = ENERGY
) -> list[Span]:
    """Cut `wave` into spans of at most `window_seconds`, each where `segmenter` finds a pause.

    The spans tile the audio exactly. A cut lies in the last quarter of its window. The quarter moves forward in
    time before the end of the audio, so that the last span keeps at least a quarter of a window. Empty audio has
    no spans.

    Raises: OptionError for a window under 0.1 s; PluginError with the segmenter's `name` when it answers with
        anything but a sample of that quarter.
    """
    if not window_seconds >= 0.1:
        raise OptionError(f"A window of {window_seconds} s is too short.", "Give at least 0.1 seconds.")
    total = len(wave.samples)
    window = int(min(window_seconds * wave.rate, total))
    quarter = window // 4
    cuts = [0]
    while total - cuts[-1] > window:
        latest = cuts[-1] + min(window, total - cuts[-1] - quarter)
        earliest = latest - quarter
        cuts.append(_checked(segmenter(wave, earliest, latest), wave, earliest, latest, name))
    if total:
        cuts.append(total)
    return [Span(first, stop, wave.rate) for first, stop in pairwise(cuts)]


def _checked(answer: Any, wave: Waveform, first: int, last: int, name: str) -> int:
    """What a segmenter answered, as a sample in [first, last]. Raises: PluginError."""
    try:
        cut = index(answer)
    except TypeError:
        cut = -1
    if not first <= cut <= last:
        raise PluginError(
            f"{name} answered {answer!r:.100} when asked for a sample between {first} and {last} of {wave.name}.",
            f"Choose another segmenter, such as {ENERGY}: this one breaks its contract.",
        )
    return cut
