"""Who gets into the final stage, and the numbers it is judged by."""

from __future__ import annotations

from itertools import chain

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from coordinator.finalists import choose_finalists, seed_groups
from trialfleet.study.values import curve_area


def trial(
    number: int,
    value: float,
    *,
    rate: float | None = None,
    state: TrialState = TrialState.COMPLETE,
    curve: dict[int, float] | None = None,
) -> FrozenTrial:
    made = optuna.trial.create_trial(
        state=state,
        value=value,
        params={"rate": number / 100 if rate is None else rate},
        distributions={"rate": FloatDistribution(0.0, 1.0)},
        intermediate_values=curve or {10: value},
    )
    made.number = number
    return made


def chosen(trials: list[FrozenTrial], top: int) -> list[int]:
    return [finalist.number for finalist in choose_finalists(trials, top)]


def test_the_highest_scores_come_first() -> None:
    trials = [trial(0, 3.0), trial(1, 9.0), trial(2, -5.0), trial(3, 7.0)]
    finalists = choose_finalists(trials, 3)
    found = [(finalist.rank, finalist.number, finalist.values) for finalist in finalists]
    assert found == [(0, 1, [9.0]), (1, 3, [7.0]), (2, 0, [3.0])]
    assert finalists[0].trial is trials[1]


def test_the_order_of_the_trials_does_not_matter() -> None:
    trials = [trial(n, float(n % 3)) for n in range(9)]
    assert chosen(trials, 9) == chosen(trials[::-1], 9) == [2, 5, 8, 1, 4, 7, 0, 3, 6]


def test_equal_scores_are_told_apart_by_who_learned_faster() -> None:
    slow, fast = {10: 0.0, 20: 5.0}, {10: 5.0, 20: 5.0}
    trials = [trial(0, 5.0, curve=slow), trial(1, 5.0, curve=fast), trial(2, 6.0, curve=slow)]
    assert chosen(trials, 3) == [2, 1, 0]


def test_equal_curves_are_told_apart_by_number() -> None:
    assert chosen([trial(4, 5.0), trial(2, 5.0), trial(3, 5.0)], 2) == [2, 3]


def test_a_configuration_is_in_it_once() -> None:
    trials = [trial(0, 9.0, rate=0.5), trial(1, 8.0, rate=0.5), trial(2, 7.0, rate=0.6)]
    assert chosen(trials, 2) == [0, 2]


@pytest.mark.parametrize(
    "state", [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
)
def test_only_complete_trials_get_in(state: TrialState) -> None:
    other = trial(0, 1.0)
    other.state, other.values = state, [99.0]
    assert chosen([other, trial(1, 2.0)], 2) == [1]
    assert chosen([other], 2) == []


def several(number: int, *values: float, rate: float | None = None) -> FrozenTrial:
    made = optuna.trial.create_trial(
        values=[*values],
        params={"rate": number / 100 if rate is None else rate},
        distributions={"rate": FloatDistribution(0.0, 1.0)},
    )
    made.number = number
    return made


def test_with_several_objectives_it_is_what_no_other_dominates() -> None:
    trials = [
        several(0, 100.0, 10.0),
        several(1, 500.0, 90.0),
        several(2, 300.0, 40.0),
        several(3, 290.0, 41.0),  # dominated by 2
        several(4, 300.0, 40.0, rate=0.02),  # the configuration of 2 once more
    ]
    found = choose_finalists(trials, 5, (True, False))
    assert [(each.rank, each.number) for each in found] == [(0, 1), (1, 2), (2, 0)]
    assert [each.number for each in choose_finalists(trials, 2, (True, False))] == [1, 0]
    assert [each.number for each in choose_finalists(trials, 1, (True, False))] == [1]
    assert choose_finalists([], 2, (True, False)) == []


def test_what_violates_a_constraint_is_not_in_it() -> None:
    best = trial(0, 9.0)
    best.system_attrs["constraints"] = [0.0, 0.01]
    met = trial(1, 8.0)
    met.system_attrs["constraints"] = [0.0, -3.0]
    assert chosen([best, met], 2) == [1]
    assert chosen([best], 2) == []


def test_there_may_be_fewer_than_wanted() -> None:
    assert chosen([trial(0, 1.0), trial(1, 2.0)], 5) == [1, 0]


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ({}, 0.0),
        ({10: 4.0}, 2.0),  # a triangle from zero
        ({10: 4.0, 20: 4.0}, 3.0),
        ({10: 4.0, 40: 4.0}, 3.5),  # steps count, not points
        ({20: 4.0, 10: 4.0}, 3.0),  # in any order
        ({10: -4.0}, -2.0),
    ],
)
def test_the_area_is_the_curves_mean_height(points: dict[int, float], area: float) -> None:
    assert curve_area(points) == area


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 10, 12])
@pytest.mark.parametrize("size", [1, 2, 4, 10])
def test_seeds_are_spread_evenly_over_as_few_trials_as_possible(count: int, size: int) -> None:
    groups = seed_groups(list(range(count)), size)
    assert [*chain(*groups)] == list(range(count))
    assert len(groups) == -(-count // size)
    lengths = [len(group) for group in groups]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
