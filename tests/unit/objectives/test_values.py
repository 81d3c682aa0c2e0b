"""What measures come to: over the agents of a trial, and over trials."""

from __future__ import annotations

import math
import sys
from statistics import stdev

import pytest

from trialfleet.study.measures import Measure, Objective
from trialfleet.study.values import (
    Measures,
    combined,
    curve_area,
    gap,
    objective_values,
    pooled,
    steps_to,
    value,
)

SCORES = [1.0, 100.0, 2.0, 9.0, 4.0, 3.0, 5.0, 8.0]


@pytest.mark.parametrize(
    ("over_seeds", "maximize", "found"),
    [
        ("mean", True, 16.5),
        ("median", True, 4.5),
        ("iqm", True, 5.0),  # of 3, 4, 5 and 8: two are left out at each end
        ("worst", True, 1.0),
        ("worst", False, 100.0),
    ],
)
def test_agents_become_one_value(over_seeds: str, maximize: bool, found: float) -> None:
    assert combined(SCORES, over_seeds, maximize=maximize) == found
    assert combined(SCORES[::-1], over_seeds, maximize=maximize) == found


def test_a_quarter_is_rounded_down() -> None:
    assert combined([0.0, 1.0, 5.0], "iqm", maximize=True) == 2.0
    assert combined([0.0, 1.0, 5.0, 90.0, 91.0], "iqm", maximize=True) == 32.0


def test_steps_to_a_return_are_those_of_the_first_evaluation_that_has_it() -> None:
    curve = {30: 475.0, 10: 20.0, 20: 475.0, 40: 3.0}
    assert steps_to(475.0, curve) == 20
    assert steps_to(476.0, curve) is None


def test_the_spread_is_the_standard_deviation_of_the_scores() -> None:
    measures = {"score": SCORES}
    assert value(Measure("spread"), measures, "median", maximize=False) == pytest.approx(
        stdev(SCORES), rel=1e-12
    )


def test_each_objective_has_its_value_and_its_worst_agent() -> None:
    objectives = [Objective.parse(each) for each in ("score", "steps_to_5", "parameters")]
    measures: Measures = {"score": [1.0, 3.0], "steps_to_5": [10.0, 20.0], "parameters": 7.0}
    assert objective_values(objectives, measures, "mean") == [2.0, 15.0, 7.0]
    assert objective_values(objectives, measures, "worst") == [1.0, 20.0, 7.0]


def test_trials_of_one_configuration_are_pooled_by_their_agents() -> None:
    alike = {"parameters": 0.1}
    first: Measures = {"score": [1.0, 2.0], "auc": [3.0, 4.0], **alike, "training_seconds": 2.0}
    second: Measures = {"score": [5.0], "auc": [6.0], **alike, "training_seconds": 8.0}
    assert pooled([first, second]) == {
        "score": [1.0, 2.0, 5.0],
        "auc": [3.0, 4.0, 6.0],
        "parameters": 0.1,
        "training_seconds": 4.0,
    }


def test_the_largest_scores_have_their_statistics() -> None:
    most = 1.7e308
    for over_seeds in ("mean", "median", "iqm", "worst"):
        assert combined([most] * 4, over_seeds, maximize=True) == pytest.approx(most)
        assert math.isfinite(combined([most, -most, most, 0.0], over_seeds, maximize=True))
    spread = value(Measure("spread"), {"score": [1e300, -1e300]}, "mean", maximize=False)
    assert spread == pytest.approx(2**0.5 * 1e300)
    assert curve_area({8: most, 16: most}) == pytest.approx(0.75 * most)
    assert curve_area({8: most, 16: -most}) == pytest.approx(0.25 * most, rel=1e-9)
    assert gap(most, -most) == sys.float_info.max
