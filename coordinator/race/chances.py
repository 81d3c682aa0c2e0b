"""How likely each finalist is to be the best, given its seeds in the search and in the race."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from trialfleet.study.values import mean

# Above this a square may be more than a double holds.
_LARGEST = math.sqrt(sys.float_info.max) / 1e3
# Seeds that the finalists' mean variance counts as, beside a finalist's own.
_SHARED = 4
# Points of a finalist's distribution at which it is compared with the others, equally likely ones.
_POINTS = 400
_NORMAL = NormalDist()
_Z = np.array([_NORMAL.inv_cdf((k + 0.5) / _POINTS) for k in range(_POINTS)])
_below = np.vectorize(_NORMAL.cdf, otypes=[float])


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a finalist's score."""

    estimate: float  # its mean in the search, shrunken (`coordinator.race.shrinkage`)
    searched: int  # seeds that this is the mean of
    scores: Sequence[float]  # of its seeds in the race [n]

    @property
    def mean(self) -> float:
        """The mean over the seeds of both; that of the search is no longer the luckiest of many."""
        n = len(self.scores)
        found = (self.searched * self.estimate + n * mean(self.scores)) / (self.searched + n)
        if math.isfinite(found):
            return found
        share = n / (self.searched + n)
        return (1 - share) * self.estimate + share * mean(self.scores)


def chances(finalists: Sequence[Known]) -> list[float] | None:
    """The probability of each finalist to have the highest true mean of all of them.

    A true mean is taken to be normal around `Known.mean`, with the variance of the seeds divided by
    their number. So few seeds tell little of their variance, and many of a capped score tell that
    it is 0: half of it is the finalists' mean variance while there are few (`_SHARED`; Smyth 2004,
    as in `coordinator.race.shrinkage`). The integral over the best's distribution is a mean over
    points of it, and is rounded, so that every machine comes to the same.

    Args:
        finalists: Those that stand.

    Returns:
        Probabilities that sum up to 1; None while one of them has less than two seeds, as nothing
        is known of their variance.
    """
    counts = np.array([len(each.scores) for each in finalists])
    if counts.min() < 2:
        return None
    most = max(abs(value) for each in finalists for value in (each.estimate, *each.scores))
    if most > _LARGEST:
        # Chances don't depend on the unit of the scores.
        finalists = [_scaled(each, 2.0 ** -math.frexp(most)[1]) for each in finalists]
    own = np.array([np.var(each.scores, ddof=1) for each in finalists])
    variances = ((counts - 1) * own + _SHARED * own.mean()) / (counts - 1 + _SHARED)
    means = np.array([each.mean for each in finalists])
    deviations = np.sqrt(variances / (counts + [each.searched for each in finalists]))
    # Where no seeds differ at all, equal means are equally likely, and others have no chance.
    deviations = np.maximum(deviations, 1e-9 * max(1.0, float(np.abs(means).max())))
    found = np.ones((len(finalists), _POINTS))
    for i, points in enumerate(means[:, None] + deviations[:, None] * _Z):
        for j in range(len(finalists)):
            if j != i:
                found[i] *= _below((points - means[j]) / deviations[j])
    shares = found.mean(axis=1)
    return [round(float(each), 6) for each in shares / math.fsum(shares)]


def _scaled(known: Known, scale: float) -> Known:
    return Known(
        estimate=known.estimate * scale,
        searched=known.searched,
        scores=[score * scale for score in known.scores],
    )
