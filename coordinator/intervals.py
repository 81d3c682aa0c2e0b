"""Confidence intervals over seeds, each with what it needs to hold.

The mean of returns that have bounds gets an interval that holds for every distribution within
them, at any number of seeds, also when it is looked at after every block. Without bounds there is
no such interval (Bahadur and Savage 1956), so Student's is given, by its name and with its
assumption. `benchmarks/coverage.py` measures how often each of them contains the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Method = Literal["bounded", "student", "student-sequence", "median", "bootstrap"]

STUDENT_FROM = 5  # seeds; Student's interval of fewer says nothing of use
# Shares of what a bet can stake at most, and how the capital is divided among them. Most of it
# stakes everything, which is best where all seeds are near the highest return; the rest is for
# scores that scatter. Chosen by measurement: benchmarks/coverage.py prints what it comes to.
_STAKES = np.arange(20, 0, -1) / 20
_WEIGHTS = np.array([0.6] + [0.4 / 19] * 19)
_ROUNDING = 1e-6  # of the range; what is past a bound by no more counts as on it
_HALVINGS = 40  # to 1e-12 of the range
# Of the normal mixture over effects, 1 / variance: shortest at 5 to 60 seeds, near enough.
_MIXTURE = 0.25

_BYNAMES: dict[Method, str] = {
    "bounded": "",  # whatever needs no assumption needs no byname
    "student": " (Student's t)",
    "student-sequence": " (Student's t, sequential)",
    "median": " (order statistics)",
    "bootstrap": " (percentile bootstrap of an earlier version: too short)",
}


class Bounds(Protocol):
    """What no return is below or above."""

    @property
    def low(self) -> float:
        """The lowest return."""

    @property
    def high(self) -> float:
        """The highest return."""


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float
    level: float
    method: Method

    @property
    def name(self) -> str:
        """Its name, such as "95% interval" or "95% interval (Student's t)"."""
        return f"{100 * self.level:g}% interval{self.byname}"

    @property
    def byname(self) -> str:
        """What kind of interval it is, in brackets; empty for the bounded one."""
        return byname(self.method)

    @property
    def width(self) -> float:
        """Its length."""
        return self.high - self.low


def byname(method: Method) -> str:
    """Return what kind of interval a method gives, in brackets; empty for the bounded one."""
    return _BYNAMES[method]


def mean_interval(
    values: Sequence[float],
    returns: Bounds | None,
    *,
    level: float = 0.95,
    sequential: bool = False,
) -> Interval | None:
    """Return an interval of the mean over all seeds, or None where none can be given.

    Args:
        values: The score of each seed; their order does not matter.
        returns: Bounds of a score, if there are any. Bounds that a value lies outside of are
            refuted, and count as none.
        level: The probability that the interval contains the mean.
        sequential: Whether the number of seeds depends on their scores, as when blocks are trained
            until the interval is narrow enough. The bounded interval holds either way; Student's
            becomes longer.

    Returns:
        With bounds, an interval of any number of seeds. Without, Student's, of five seeds or
        more, unless all are equal: then their standard deviation says nothing.
    """
    found = np.sort(np.asarray(values, dtype=float))
    if not len(found) or not np.isfinite(found).all():
        return None
    shares = None if returns is None else _shares(found, returns)
    if returns is not None and shares is not None:
        return _bounded(found, shares, returns, level)
    return student_interval(values, level=level, sequential=sequential)


def student_interval(
    values: Sequence[float], *, level: float = 0.95, sequential: bool = False
) -> Interval | None:
    """Return Student's interval of the mean, which holds where the values are normal.

    The sequential one is a confidence sequence: all of its intervals together contain the mean
    with the given probability, whenever one stops (Lai 1976; Wang and Ramdas 2023, "Anytime-valid
    t-tests and confidence sequences for Gaussian means with unknown variance").

    Returns:
        None of fewer than five values, of equal ones, and where no finite interval is to be had.
    """
    found = np.sort(np.asarray(values, dtype=float))
    n = len(found)
    if n < STUDENT_FROM or not np.isfinite(found).all():
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(found.mean()), float(found.std(ddof=1))
    times = _sequence_quantile(n, level) if sequential else t_quantile(n - 1, level)
    half = times * deviation / math.sqrt(n)
    # Sums of equal values may differ from them in the last bit.
    if found[0] == found[-1] or not (math.isfinite(mean) and math.isfinite(half)):
        return None
    method: Method = "student-sequence" if sequential else "student"
    return Interval(mean - half, mean + half, level, method)


def median_interval(values: Sequence[float], *, level: float = 0.95) -> Interval | None:
    """Return the exact interval of the median between two order statistics.

    It holds for any distribution, and at a number of values that does not depend on them
    (Thompson 1936). Where many values are equal it may be a point, rightly so.

    Returns:
        None where too few values reach the level (at 95%, fewer than six).
    """
    found = np.sort(np.asarray(values, dtype=float))
    n = len(found)
    if not np.isfinite(found).all():
        return None
    # The k-th from either end miss the median with a probability of P(Binomial(n, 1/2) < k) each.
    miss, left_out = 0.0, 0
    while left_out < n:
        miss += math.comb(n, left_out) / 2.0**n
        if miss > (1 - level) / 2:
            break
        left_out += 1
    if not left_out:
        return None
    return Interval(float(found[left_out - 1]), float(found[n - left_out]), level, "median")


def share_at_least(
    solved: int, seeds: int, *, level: float = 0.95, sequential: bool = False
) -> float:
    """Return the share of all seeds that is solved at least, given that `solved` of `seeds` were.

    At a fixed number of seeds, the exact one-sided lower bound of a binomial proportion (Clopper
    and Pearson 1934): the share at which as many successes, or more, have a probability of
    1 - level; 10 of 10 say 74%. Where the scores decided how many seeds there are, the lower bound
    that holds after every one of them.
    """
    if not 0 <= solved <= seeds or seeds < 1:
        raise ValueError(f"{solved} of {seeds} seeds")
    if sequential:
        return lower_bound(np.repeat([0.0, 1.0], [seeds - solved, solved]), 1 - level)
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


def lower_bound(shares: Array, error: float) -> float:
    """Return a lower bound of the mean of values in [0, 1], wrong with at most this probability.

    Somebody who bets the same share c of what may be staked on every value x being above m has
    the capital ∏ (1 - c + c·x/m) in the end. If the mean is m or less, no such gamble is worth
    playing: the capital, divided among several c, is a non-negative supermartingale that starts at
    one, and reaches 1/error at any time with a probability of at most `error` (Ville 1939). So all
    m at which it has been reached are refuted: the hedged capital over a grid of constant bets of
    Waudby-Smith and Ramdas (2024, "Estimating means of bounded random variables by betting",
    section 4.3). It falls as m rises, so the bound is where it comes to 1/error. It does not
    depend on the order of the values.
    """
    target = math.log(1 / error)
    low, high = 0.0, 1.0
    # The steps are fixed fractions: a last bit that machines compute differently is lost in them.
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _log_capital(shares, middle) >= target:
            low = middle
        else:
            high = middle
    return low


def t_quantile(freedom: int, level: float) -> float:
    """Return the t that Student's |t| exceeds with a probability of 1 - level.

    The distribution has a closed form for whole degrees of freedom (Abramowitz and Stegun 1964,
    26.7.3 and 26.7.4), so nothing else is needed for it.
    """
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(freedom)
    for _ in range(60):
        middle = (low + high) / 2
        if _within(middle, freedom) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _within(angle: float, freedom: int) -> float:
    """The probability that Student's |t| is at most sqrt(freedom)·tan(angle)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _sequence_quantile(n: int, level: float) -> float:
    """The |t| of n values at which a scale-invariant normal mixture refutes a mean.

    With effects (mean by deviation) drawn from a normal distribution of variance 1 / _MIXTURE, the
    likelihood ratio of the t statistics is sqrt(1/r)·((1 + y) / (1 + y/r))^(n/2), with
    y = t²/(n - 1) and r = 1 + n/_MIXTURE: a martingale if the mean is right.
    """
    ratio = 1 + n / _MIXTURE
    bound = (math.sqrt(ratio) / (1 - level)) ** (2 / n)
    if bound >= ratio:
        return math.inf
    return math.sqrt((n - 1) * (bound - 1) / (1 - bound / ratio))


def _bounded(found: Array, shares: Array, returns: Bounds, level: float) -> Interval:
    error = (1 - level) / 2
    low, high = lower_bound(shares, error), 1 - lower_bound(1 - shares[::-1], error)
    span, mean = returns.high - returns.low, float(found.mean())
    # The mean is between the two; its own last bit must not say otherwise.
    return Interval(
        float(max(returns.low, min(returns.low + low * span, mean))),
        float(min(returns.high, max(returns.low + high * span, mean))),
        level,
        "bounded",
    )


def _shares(found: Array, returns: Bounds) -> Array | None:
    """Where values lie between their bounds, in [0, 1]; None if one lies outside of them."""
    span = returns.high - returns.low
    if not (math.isfinite(span) and span > 0):
        return None
    shares: Array = (found - returns.low) / span
    # Sums of many rewards are rounded.
    if shares[0] < -_ROUNDING or shares[-1] > 1 + _ROUNDING:
        return None
    return shares.clip(0.0, 1.0)


def _log_capital(shares: Array, mean: float) -> float:
    """The logarithm of the capital that bets against this mean have come to."""
    with np.errstate(divide="ignore"):  # whoever staked everything on a zero has nothing
        factors = 1 - _STAKES[:, None] + _STAKES[:, None] * (shares / mean)  # [stakes, values]
        capitals = np.log(factors).sum(axis=1) + np.log(_WEIGHTS)
    most = float(capitals.max())
    return most + math.log(float(np.exp(capitals - most).sum()))


def _tail(solved: int, seeds: int, share: float) -> float:
    """The probability of at least so many successes."""
    return math.fsum(
        math.comb(seeds, k) * share**k * (1 - share) ** (seeds - k)
        for k in range(solved, seeds + 1)
    )
