"""Whether one configuration does better than another on fresh seeds, or seems to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

_RESAMPLES = 10_000
_EXACT = 200_000  # divisions of the scores into two groups that are gone through one by one


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first one's mean minus the second's."""

    difference: float
    low: float  # of the 95% interval
    high: float
    p: float  # two-sided
    exact: bool  # whether p is of all divisions, or of random ones

    @property
    def told_apart(self) -> bool:
        """Whether the seeds are enough to tell which one is better."""
        return not self.low <= 0.0 <= self.high

    @property
    def method(self) -> str:
        """How interval and p were found."""
        kind = "exact" if self.exact else f"{_RESAMPLES:,} random divisions"
        return (
            f"95% percentile bootstrap over seeds, each study's resampled {_RESAMPLES:,} times; "
            f"p: two-sided permutation test of the means, {kind}"
        )


def compare(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two lists of scores, one of each seed; the same lists give the same numbers."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    rng = np.random.default_rng(0)
    means = [
        values[rng.integers(len(values), size=(_RESAMPLES, len(values)))].mean(axis=1)
        for values in (a, b)
    ]  # each [resamples]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    p, exact = _permutation(a, b, rng)
    return Difference(
        difference=float(a.mean() - b.mean()), low=float(low), high=float(high), p=p, exact=exact
    )


def _permutation(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> tuple[float, bool]:
    """How often a random division of all scores differs by as much as the real one."""
    both = np.concatenate([a, b])
    total, size = both.sum(), len(a)
    exact = math.comb(len(both), size) <= _EXACT
    if exact:
        chosen = np.array(list(combinations(range(len(both)), size)))
    else:
        chosen = rng.permuted(np.tile(np.arange(len(both)), (_RESAMPLES, 1)), axis=1)[:, :size]
    sums = both[chosen].sum(axis=1)
    found = np.abs(sums / size - (total - sums) / len(b))
    real = abs(a.mean() - b.mean())
    # Sums in another order differ in their last bits.
    as_much = int((found >= real * (1 - 1e-12) - 1e-12).sum())
    return (as_much / len(found) if exact else (as_much + 1) / (len(found) + 1)), exact
