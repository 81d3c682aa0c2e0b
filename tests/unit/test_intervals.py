"""Intervals over seeds: what they come to, and that they hold as often as they say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.coverage import former_interval
from coordinator.intervals import (
    Interval,
    lower_bound,
    mean_interval,
    median_interval,
    share_at_least,
    student_interval,
    t_quantile,
)


@dataclass(frozen=True)
class Returns:
    low: float
    high: float


CARTPOLE = Returns(0, 500)
SCORES = st.lists(st.floats(0, 500), min_size=1, max_size=12)


def bounded(values: list[float], returns: Returns = CARTPOLE, level: float = 0.95) -> Interval:
    found = mean_interval(values, returns, level=level)
    assert found is not None
    assert found.method == "bounded"
    return found


@pytest.mark.parametrize("seeds", [1, 2, 5, 12, 30])
@pytest.mark.parametrize("good", [0.7, 0.9, 0.97, 0.99])
def test_the_bounded_interval_covers_the_mean_of_seeds_that_fail_now_and_then(
    good: float, seeds: int
) -> None:
    """Exactly, over all numbers of failures; the bootstrap shows that the test can fail."""
    assert _coverage(good, seeds, lambda values: bounded(values)) >= 0.95


def test_the_bootstrap_does_not_cover_it() -> None:
    def bootstrap(values: list[float]) -> Interval:
        low, high = former_interval(values)
        return Interval(low, high, 0.95, "bootstrap")

    assert _coverage(0.97, 12, bootstrap) < 0.4
    assert _coverage(0.97, 30, bootstrap) < 0.7


def test_the_bounded_interval_holds_when_it_is_looked_at_after_every_block() -> None:
    """Somebody who trains further blocks until the interval excludes the truth rarely succeeds."""
    rng = np.random.default_rng(2)
    truth, missed = 0.8 * 500 + 0.2 * 150, 0
    look = cache(lambda n, failed: bounded([150.0] * failed + [500.0] * (n - failed)))
    for _ in range(400):
        failures = np.cumsum(rng.random(60) >= 0.8)
        looks = (look(n, int(failures[n - 1])) for n in range(4, 61, 4))
        missed += any(not found.low <= truth <= found.high for found in looks)
    assert missed / 400 <= 0.05


def test_students_sequence_holds_where_looking_again_breaks_students_interval() -> None:
    rng = np.random.default_rng(3)
    missed = {False: 0, True: 0}
    for _ in range(400):
        scores = rng.normal(0.0, 1.0, 60)
        for sequential in missed:
            looks = (
                student_interval(scores[:n].tolist(), sequential=sequential)
                for n in range(5, 61, 5)
            )
            missed[sequential] += any(look and not look.low <= 0 <= look.high for look in looks)
    assert missed[True] / 400 <= 0.05
    assert missed[False] / 400 > 0.1


def test_worked_values_of_the_bounded_interval() -> None:
    all_at_the_highest = bounded([500.0] * 30)
    # Somebody may bet that no seed fails: no bound is above Clopper and Pearson's, 442.2.
    assert all_at_the_highest.low == pytest.approx(436.8, abs=0.05)
    assert all_at_the_highest.high == 500.0
    assert bounded([500.0]).low == pytest.approx(10.05, abs=0.01)
    one_failed = bounded([500.0] * 29 + [150.0])
    assert (one_failed.low, one_failed.high) == pytest.approx((419.88, 499.997), abs=0.01)
    assert bounded([0.0] * 5).low == 0.0


def test_a_bet_on_one_stake_alone_is_solved_by_hand() -> None:
    """The capital at the bound is 1 / error."""
    shares = np.array([0.2, 0.9, 1.0])
    bound = lower_bound(shares, 0.05)
    stakes = np.arange(1, 21) / 20
    weights = np.array([0.4 / 19] * 19 + [0.6])
    capital = (weights * np.prod(1 - stakes + stakes * shares[:, None] / bound, axis=0)).sum()
    assert capital == pytest.approx(20.0, rel=1e-6)


@settings(deadline=None)  # a busy machine is no failure
@given(SCORES)
def test_the_bounded_interval_is_sane(scores: list[float]) -> None:
    found = bounded(scores)
    mean = float(np.mean(scores))
    assert 0 <= found.low <= mean + 1e-9
    assert mean - 1e-9 <= found.high <= 500
    assert found.width > 0
    # The order of seeds decides nothing, not even the last bit.
    assert bounded(scores[::-1]) == found
    # More confidence, longer.
    sure = bounded(scores, level=0.99)
    assert sure.low <= found.low
    assert found.high <= sure.high
    # Losses are rewards seen from the other side.
    mirrored = bounded([-score for score in scores], Returns(-500, 0))
    assert (-mirrored.high, -mirrored.low) == pytest.approx((found.low, found.high), abs=1e-6)
    # One seed is better: neither end falls.
    better = bounded([*scores[1:], 500.0])
    assert better.low >= found.low - 1e-6
    assert better.high >= found.high - 1e-6


def test_more_seeds_of_the_same_kind_make_it_shorter() -> None:
    widths = [bounded([500.0, 150.0, 500.0, 400.0] * times).width for times in (1, 2, 4, 8, 16)]
    assert widths == sorted(widths, reverse=True)


def test_bounds_that_a_score_refutes_count_as_none() -> None:
    scores = [400.0, 450.0, 470.0, 480.0, 501.0]
    found = mean_interval(scores, CARTPOLE)
    assert found is not None
    assert found.method == "student"
    # The mean of many returns of 500 may be off in its last bit.
    assert bounded([500.0 + 1e-12] * 3).high == 500.0


def test_without_bounds_it_is_students_by_its_name_and_never_a_point() -> None:
    scores = [1.0, 2.0, 4.0, 8.0, 16.0]
    found = mean_interval(scores, None)
    wanted = stats.t.interval(0.95, 4, np.mean(scores), stats.sem(scores))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(wanted)
    assert found.method == "student"
    assert (found.name, bounded([1.0]).name) == ("95% interval (Student's t)", "95% interval")
    assert mean_interval(scores[:4], None) is None
    assert mean_interval([7.0] * 30, None) is None
    assert mean_interval([0.1 + 0.2] * 10, None) is None
    assert mean_interval([], CARTPOLE) is None
    assert mean_interval([1.0, math.nan], CARTPOLE) is None
    assert mean_interval([1e308, -1e308] * 3, None) is None


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_students_quantile_is_scipys(level: float) -> None:
    for freedom in range(1, 80):
        wanted = stats.t.ppf((1 + level) / 2, freedom)
        assert t_quantile(freedom, level) == pytest.approx(wanted, rel=1e-9)


def test_the_medians_interval_is_of_order_statistics() -> None:
    values = [float(value) for value in range(1, 31)]
    # Of 30, the tenth from either end (Conover 1999, table A3).
    assert median_interval(values) == Interval(10.0, 21.0, 0.95, "median")
    assert median_interval(values[:6]) == Interval(1.0, 6.0, 0.95, "median")
    assert median_interval(values[:5]) is None
    assert median_interval([]) is None


def test_a_share_of_seeds_that_the_scores_decided_the_number_of_has_a_lower_bound() -> None:
    assert share_at_least(10, 10) == pytest.approx(0.05**0.1)
    assert share_at_least(0, 5) == 0.0
    assert share_at_least(0, 12, sequential=True) == 0.0
    for solved in range(1, 13):
        assert 0.0 < share_at_least(solved, 12, sequential=True) < share_at_least(solved, 12)
    with pytest.raises(ValueError, match="4 of 3"):
        share_at_least(4, 3)


def _coverage(good: float, seeds: int, interval: object) -> float:
    """How often the mean is inside, of seeds that return 500, or else 150."""
    assert callable(interval)
    truth = 500 * good + 150 * (1 - good)
    covered = 0.0
    for failed in range(seeds + 1):
        found = interval([150.0] * failed + [500.0] * (seeds - failed))
        if found.low <= truth <= found.high:
            covered += stats.binom.pmf(failed, seeds, 1 - good)
    return covered
