"""Interquartile means, their bootstrap intervals, and whether two of these overlap.

The interquartile mean over seeds and its percentile bootstrap are those of Agarwal et al., 2021
(https://arxiv.org/abs/2108.13264): with one task, their stratified bootstrap resamples the seeds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether they share a point, their ends included."""
        return self.low <= other.high and other.low <= self.high


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the middle half along the last axis: a quarter, rounded down, off each end."""
    cut = values.shape[-1] // 4
    middle = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut]
    mean: NDArray[np.float64] = middle.mean(axis=-1)
    return mean


def bootstrap_interval(
    values: NDArray[np.float64], *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Where the interquartile mean of `values` [N] lies, by percentiles over resampled seeds."""
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(len(values), size=(RESAMPLES, len(values)))]  # [R, N]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(interquartile_mean(drawn), [tail, 1.0 - tail])
    return Interval(float(low), float(high))
