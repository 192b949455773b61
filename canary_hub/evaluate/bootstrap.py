"""How sure an error rate is: bootstrap over utterances (Bisani & Ney 2004, "Bootstrap estimates for confidence
intervals in ASR performance evaluation")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..compare.scoring import Edits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0


class Interval(NamedTuple):
    """The middle 95 % of the resampled values."""

    low: float
    high: float


class Difference(NamedTuple):
    """An error rate minus another's, over the same utterances.

    value: of all utterances; negative where the first rate is the lower.
    low, high: the 95 % interval.
    better: the share of resamples in which the first rate is the lower one; one in which they are equal counts half.
    """

    value: float
    low: float
    high: float
    better: float


def interval(edits: Sequence[Edits]) -> Interval:
    """The 95 % interval of the error rate that the utterances' edits add up to."""
    (rates,) = _resampled(edits)
    return _middle(rates)


def difference(ours: Sequence[Edits], theirs: Sequence[Edits]) -> Difference:
    """The paired bootstrap: both error rates over the same resamples of the same utterances."""
    mine, other = _resampled(ours, theirs)
    change = mine - other
    better = float((change < 0).mean() + (change == 0).mean() / 2)
    return Difference(sum(ours, Edits()).rate - sum(theirs, Edits()).rate, *_middle(change), better)


def _resampled(*systems: Sequence[Edits]) -> list[NDArray[np.float64]]:
    """(RESAMPLES,) error rates per system, drawing as many utterances as there are, with replacement."""
    import numpy as np

    counts = np.array([[(edits.wrong, edits.reference) for edits in edits_of] for edits_of in systems])
    rng = np.random.default_rng(SEED)
    totals = np.empty((RESAMPLES, len(systems), 2))
    for total in totals:
        total[:] = counts[:, rng.integers(0, counts.shape[1], counts.shape[1])].sum(axis=1)
    return [totals[:, i, 0] / np.maximum(totals[:, i, 1], 1) for i in range(len(systems))]


def _middle(values: NDArray[np.float64]) -> Interval:
    import numpy as np

    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))
