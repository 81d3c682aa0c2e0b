"""The test of two means: its p values are those of counting, and it errs as often as it says."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.race import permutation
from coordinator.race.permutation import divisions, p_value


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def counted(better: list[float], worse: list[float]) -> float:
    """The definition, division by division."""
    pooled, n = [*better, *worse], len(better)
    sums = [sum(half) for half in combinations(pooled, n)]
    return sum(each >= sum(better) - 1e-6 for each in sums) / len(sums)


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [
        ([4.0, 3.0], [2.0, 1.0], 1 / 6),
        ([500.0] * 4, [1.0, 2.0, 3.0, 4.0], 1 / 70),
        ([500.0] * 4, [500.0] * 4, 1.0),
        # All three bad seeds fall to one side in C(13, 5) of C(16, 8) divisions.
        ([500.0] * 8, [500.0] * 5 + [300.0] * 3, 1287 / 12870),
        ([1.0, 2.0], [3.0, 4.0], 1.0),
    ],
)
def test_p_values_that_can_be_counted_by_hand(
    better: list[float], worse: list[float], p: float
) -> None:
    assert p_value(better, worse, rng()) == pytest.approx(p, abs=1e-12)


@given(
    scores=st.lists(
        st.sampled_from([0.0, 0.1, 0.2, 0.3, 1e6, 199.9, 500.0]), min_size=2, max_size=10
    ).filter(lambda each: len(each) % 2 == 0)
)
@settings(max_examples=60, deadline=None)
def test_it_counts_every_division(scores: list[float]) -> None:
    half = len(scores) // 2
    better, worse = scores[:half], scores[half:]
    assert p_value(better, worse, rng()) == pytest.approx(counted(better, worse), abs=1e-12)


def test_exact_p_values_draw_nothing_and_drawn_ones_are_near_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    better, worse = rng(1).normal(0.4, 1, 12).tolist(), rng(2).normal(0, 1, 12).tolist()
    exact = p_value(better, worse, rng())
    assert exact == p_value(better, worse, rng(9))
    monkeypatch.setattr(permutation, "EXACT", 11)
    drawn = p_value(better, worse, rng())
    assert drawn == p_value(better, worse, rng())
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=0.01)


def test_a_drawn_p_value_is_never_zero() -> None:
    assert p_value([1.0] * 17, [0.0] * 17, rng()) > 0


def test_unequal_numbers_of_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="3 seeds are compared with 2"):
        p_value([1.0, 2.0, 3.0], [1.0, 2.0], rng())


def test_the_least_p_value_is_that_of_one_division() -> None:
    assert divisions(4) == 70
    assert p_value([9.0, 8.0, 7.0, 6.0], [1.0, 2.0, 3.0, 4.0], rng()) == 1 / 70
