"""Whether one finalist's seeds are better than another's by more than luck: an exact test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

EXACT = 16  # seeds of each, up to which every division is counted
_DRAWN = 100_000


def p_value(better: Sequence[float], worse: Sequence[float], rng: np.random.Generator) -> float:
    """One-sided p value of the permutation test of two means, of equally many seeds.

    The share of all divisions of the pooled scores into two halves in which the first half's mean
    is at least as high as `better`'s (Fisher 1935, Pitman 1937). It is exact if both are of one
    distribution, whatever that is; with equally many seeds it is asymptotically right for equal
    means of different distributions, too (Romano 1990, "On the Behavior of Randomization Tests
    Without a Group Invariance Assumption").

    Args:
        better: Scores of the one with the higher mean [n].
        worse: Of the other [n].
        rng: Draws the divisions where there are too many to count; else it is left alone.
    """
    if len(better) != len(worse):
        raise ValueError(f"{len(better)} seeds are compared with {len(worse)}")
    n = len(better)
    pooled = np.array([*better, *worse], dtype=float)
    pooled -= pooled.mean()
    # Sums in another order differ in their last bits.
    least = pooled[:n].sum() - 1e-9 * np.abs(pooled).sum()
    if n <= EXACT:
        return _as_high(pooled, least) / divisions(n)
    drawn = rng.permuted(np.tile(pooled, (_DRAWN, 1)), axis=1)[:, :n].sum(axis=1)
    # Phipson and Smyth 2010: the division as it is counts, so p is never zero.
    return (int((drawn >= least).sum()) + 1) / (_DRAWN + 1)


def divisions(n: int) -> int:
    """How many divisions of twice `n` seeds into two halves there are; 1 / that is the least p."""
    return math.comb(2 * n, n)


def _as_high(pooled: NDArray[np.float64], least: float) -> int:
    """How many halves of `pooled` [2n] sum up to `least` or more.

    A half takes k from the first n scores and n - k from the last n. So two times 2^n sums are
    enough, sorted and matched, instead of the (2n choose n) of all halves (Horowitz and Sahni 1974
    for subset sums).
    """
    n = len(pooled) // 2
    first, last = _sums(pooled[:n]), _sums(pooled[n:])
    count = 0
    for k in range(n + 1):
        others = np.sort(last[n - k])
        count += int((len(others) - np.searchsorted(others, least - first[k])).sum())
    return count


def _sums(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The sums of all subsets, by the subsets' size."""
    sums, sizes = np.zeros(1), np.zeros(1, dtype=np.int8)
    for value in values:
        sums, sizes = np.concatenate([sums, sums + value]), np.concatenate([sizes, sizes + 1])
    return [sums[sizes == size] for size in range(len(values) + 1)]
