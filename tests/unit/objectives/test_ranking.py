"""Which trials come first, which ones no other dominates, and which of those are kept."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.study._multi_objective import _is_pareto_front
from optuna.trial import FrozenTrial, TrialState

from coordinator.ranking import crowding, front, ranked, spread_out


def trial(number: int, *values: float, excess: list[float] | None = None) -> FrozenTrial:
    made = optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        values=[*values],
        system_attrs={} if excess is None else {"constraints": excess},
    )
    made.number = number
    return made


def numbers(trials: list[FrozenTrial], *maximize: bool) -> list[int]:
    return [each.number for each in ranked(trials, maximize)]


def test_less_comes_first_where_less_is_better() -> None:
    trials = [trial(0, 20.0), trial(1, 10.0), trial(2, 30.0)]
    assert numbers(trials, False) == [1, 0, 2]
    assert numbers(trials, True) == [2, 0, 1]


def test_the_first_objective_counts_before_the_next() -> None:
    trials = [trial(0, 5.0, 9.0), trial(1, 5.0, 3.0), trial(2, 6.0, 99.0)]
    assert numbers(trials, True, False) == [2, 1, 0]


losses = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=30
)


@settings(max_examples=40)
@given(losses)
def test_the_front_is_optunas(points: list[tuple[int, int, int]]) -> None:
    known = _is_pareto_front(np.array(points, dtype=float), assume_unique_lexsorted=False)
    assert front(points) == [*np.flatnonzero(known)]


@settings(max_examples=40)
@given(losses, st.integers(1, 10))
def test_what_is_kept_of_a_front_has_the_best_of_each_objective(
    points: list[tuple[int, int, int]], most: int
) -> None:
    points = [points[at] for at in front(points)]
    kept = spread_out(points, most)
    assert kept == sorted(set(kept))
    assert len(kept) == min(most, len(points))
    best = [min(points[at][0] for at in kept)]
    assert best == [min(point[0] for point in points)]
    if most >= 6:
        for objective in range(3):
            assert min(points[at][objective] for at in kept) == min(p[objective] for p in points)


def test_the_densest_place_is_thinned_first() -> None:
    points = [(0.0, 10.0), (1.0, 5.0), (1.1, 4.9), (1.2, 4.8), (5.0, 1.0), (10.0, 0.0)]
    assert spread_out(points, 5) == [0, 1, 3, 4, 5]
    assert spread_out(points, 4) == [0, 3, 4, 5]
    assert spread_out(points, 1) == [0]


def test_the_ends_are_never_crowded() -> None:
    found = crowding(np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]]))
    assert found == [np.inf, pytest.approx(2.0), np.inf]
