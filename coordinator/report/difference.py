"""Whether one configuration does better than another on fresh seeds, or seems to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

_RANDOM = 20_000  # divisions that are drawn where there are too many
_EXACT = 200_000  # divisions of the scores into two groups that are gone through one by one
ERROR = 0.05  # the probability of telling two apart that are the same


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first one's mean minus the second's."""

    difference: float
    p: float  # two-sided; among several comparisons, corrected for their number
    exact: bool  # whether p is of all divisions, or of random ones

    @property
    def told_apart(self) -> bool:
        """Whether the seeds are enough to tell which one is better."""
        return self.p <= ERROR

    @property
    def method(self) -> str:
        """How p was found, and what it says."""
        kind = "exact" if self.exact else f"{_RANDOM:,} random divisions"
        return (
            "p: how often means differ by as much, or more, if both configurations have the same "
            f"scores; two-sided permutation test, {kind}. Told apart from p = {ERROR} down."
        )


def compare(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two lists of scores, one of each seed; the same lists give the same numbers.

    The permutation test of the means holds at any number of seeds and for any distribution: of
    two configurations whose scores are distributed alike, it tells at most one pair in twenty
    apart (Fisher 1935, Pitman 1937; of random divisions, Phipson and Smyth 2010).
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    p, exact = _permutation(a, b, np.random.default_rng(0))
    return Difference(difference=float(a.mean() - b.mean()), p=p, exact=exact)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p of several tests so that any of them is wrong with the probability of one.

    Holm's step-down correction (1979): the smallest times their number, the next times one less,
    and so on, none smaller than the one before.
    """
    corrected, most = [0.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        most = max(most, min(1.0, (len(ps) - place) * ps[index]))
        corrected[index] = most
    return corrected


def least_p(first: int, second: int) -> float:
    """Return the smallest p that so many seeds can come to."""
    return (2 if first == second else 1) / math.comb(first + second, first)


def _permutation(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> tuple[float, bool]:
    """How often a random division of all scores differs by as much as the real one."""
    both = np.concatenate([a, b])
    total, size = both.sum(), len(a)
    exact = math.comb(len(both), size) <= _EXACT
    if exact:
        chosen = np.array(list(combinations(range(len(both)), size)))
    else:
        chosen = rng.permuted(np.tile(np.arange(len(both)), (_RANDOM, 1)), axis=1)[:, :size]
    sums = both[chosen].sum(axis=1)
    found = np.abs(sums / size - (total - sums) / len(b))
    real = abs(a.mean() - b.mean())
    # Sums in another order differ in their last bits.
    as_much = int((found >= real * (1 - 1e-12) - 1e-12).sum())
    return (as_much / len(found) if exact else (as_much + 1) / (len(found) + 1)), exact
