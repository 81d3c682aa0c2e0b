"""What a trial's measures come to: over its agents, as values of objectives and of constraints.

The same functions serve a worker that ends a trial, the final stage that pools the agents of
several, and a replay, so that all of them find the same bits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trialfleet.study.constraints import Constraint
from trialfleet.study.measures import Measure, Objective

Array = NDArray[np.float64]
# By the measure's name: a value of each agent [S], or one of the trial.
Measures = Mapping[str, Sequence[float] | float]
NEVER = 2  # a score that is never reached counts as so many times the training's steps


def finite(statistic: Callable[[Array], Any], values: Array) -> Any:
    """A statistic of finite values that grows with them, such as a mean or a standard deviation.

    A score may be anything that a double holds. Where the sum of a few, or the square of one, is
    more than that, the statistic is taken of smaller numbers; all others stay what they are, to
    the bit.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found = statistic(values)
        if np.isfinite(found).all():
            return found
        scale = 2.0 ** -np.frexp(np.abs(values).max())[1]
        most = np.finfo(float).max
        return np.clip(statistic(values * scale) / scale, -most, most)


def mean(values: Sequence[float]) -> float:
    """The mean of scores."""
    return float(finite(np.mean, np.asarray(values, dtype=float)))


def gap(promised: float, found: float) -> float:
    """By how much a score is less than was promised."""
    most = sys.float_info.max
    return min(max(promised - found, -most), most)


def curve_area(points: Mapping[int, float]) -> float:
    """Mean height of a learning curve: the area under it, divided by its length.

    Args:
        points: Return by environment step; the curve is taken to start at zero.
    """
    steps, heights = sorted(points), np.array([points[step] for step in sorted(points)])
    if not steps:
        return 0.0
    return float(finite(lambda values: _area(steps, values.tolist()), heights))


def _area(steps: Sequence[int], heights: Sequence[float]) -> float:
    area, previous_step, previous = 0.0, 0, 0.0
    for step, value in zip(steps, heights, strict=True):
        area += (step - previous_step) * (previous + value) / 2
        previous_step, previous = step, value
    return area / previous_step if previous_step else 0.0


def steps_to(threshold: float, points: Mapping[int, float]) -> int | None:
    """The first step whose return is at least the threshold; None if there is none."""
    return next((step for step, value in sorted(points.items()) if value >= threshold), None)


def center(values: Array, over_seeds: str) -> Array:
    """The mean, median or iqm over the last axis.

    `iqm` is the interquartile mean as rliable has it: a quarter of the values is left out at each
    end, rounded down (Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the
    Statistical Precipice").
    """
    return np.asarray(finite(partial(_center, over_seeds=over_seeds), values))


def _center(values: Array, *, over_seeds: str) -> Array:
    found: Array
    if over_seeds == "median":
        found = np.median(values, axis=-1)
    elif over_seeds == "iqm":
        cut = values.shape[-1] // 4
        found = np.sort(values)[..., cut : values.shape[-1] - cut].mean(axis=-1)
    else:
        found = values.mean(axis=-1)
    return found


def combined(values: Sequence[float], over_seeds: str, *, maximize: bool) -> float:
    """The values of a trial's agents [S] as one."""
    array = np.asarray(values, dtype=float)
    if over_seeds == "worst":
        return float(array.min() if maximize else array.max())
    return float(center(array, over_seeds))


def value(measure: Measure, measures: Measures, over_seeds: str, *, maximize: bool) -> float:
    """What a measure comes to for a trial, or for all agents of a finalist."""
    if measure.key == "spread":
        scores = measures["score"]
        assert isinstance(scores, Sequence)
        if len(scores) < 2:
            return 0.0
        return float(finite(partial(np.std, ddof=1), np.asarray(scores, dtype=float)))
    found = measures[measure.name]
    if isinstance(found, Sequence):
        return combined(found, over_seeds, maximize=maximize)
    return float(found)


def objective_values(
    objectives: Sequence[Objective], measures: Measures, over_seeds: str
) -> list[float]:
    """The values of a trial, of each objective."""
    return [
        value(each.measure, measures, over_seeds, maximize=each.maximize) for each in objectives
    ]


def constraint_values(
    constraints: Sequence[Constraint], measures: Measures, over_seeds: str
) -> list[float]:
    """What each constraint's measure comes to."""
    return [
        value(
            each.measure,
            measures,
            each.over_seeds or over_seeds,
            maximize=each.more_is_better,
        )
        for each in constraints
    ]


def when_pruned(constraint: Constraint, found: float) -> float | None:
    """The same of a pruned trial, from what it measured until then; None if it is not certain."""
    kind = constraint.measure.kind
    too_much = kind.grows and not constraint.more_is_better and constraint.excess(found) > 0
    return found if kind.settled or too_much else None


def pooled(trials: Sequence[Measures]) -> dict[str, list[float] | float]:
    """The measures of several trials that have trained one configuration, as if of one.

    Args:
        trials: Each with its `score` [S]; measures of a trial count by its number of agents.
    """
    weights = []
    for measures in trials:
        scores = measures["score"]
        assert isinstance(scores, Sequence)
        weights.append(len(scores))
    found: dict[str, list[float] | float] = {}
    for name, first in trials[0].items():
        if isinstance(first, Sequence):
            found[name] = [each for measures in trials for each in _list(measures[name])]
        else:
            numbers = [float(_number(measures[name])) for measures in trials]
            # One number that all share stays that number, to the bit.
            same = len(set(numbers)) == 1
            average = partial(np.average, weights=weights)
            found[name] = numbers[0] if same else float(finite(average, np.array(numbers)))
    return found


def _list(found: Sequence[float] | float) -> Sequence[float]:
    assert isinstance(found, Sequence)
    return found


def _number(found: Sequence[float] | float) -> float:
    assert not isinstance(found, Sequence)
    return found
