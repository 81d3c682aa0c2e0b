"""What a winner comes to on seeds that had no part in choosing it."""

from __future__ import annotations

import math


def at_least(solved: int, seeds: int, *, level: float = 0.95) -> float:
    """The share of all seeds that is solved at least, given that `solved` of `seeds` were.

    The exact one-sided lower bound of a binomial proportion (Clopper and Pearson 1934): the share
    at which as many successes, or more, have a probability of 1 - level. 10 of 10 say 74%.
    """
    if not 0 <= solved <= seeds or seeds < 1:
        raise ValueError(f"{solved} of {seeds} seeds")
    if solved == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):  # to the last bit
        middle = (low + high) / 2
        if _tail(solved, seeds, middle) < 1 - level:
            low = middle
        else:
            high = middle
    return low


def _tail(solved: int, seeds: int, share: float) -> float:
    """The probability of at least so many successes."""
    return math.fsum(
        math.comb(seeds, k) * share**k * (1 - share) ** (seeds - k)
        for k in range(solved, seeds + 1)
    )
