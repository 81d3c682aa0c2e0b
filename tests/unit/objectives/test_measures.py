"""What a study file can ask of a trial, and what it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.studyfiles import in_table, refusal
from trialfleet.study.file import parse
from trialfleet.study.measures import SCORE, Objective, amount, as_score
from trialfleet.study.spec import Spec
from trialfleet.study.values import center


def objectives(line: str) -> list[str]:
    return [*map(str, parse(in_table("search", line), source="x").search.objectives)]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ('objective = "score"', ["score:max"]),
        ('objective = "score:max"', ["score:max"]),
        ('objective = "auc"', ["auc:max"]),
        ('objective = "steps_to_475"', ["steps_to_475:min"]),
        ('objective = "steps_to_-110.5"', ["steps_to_-110.5:min"]),
        ('objective = "metric.loss:min"', ["metric.loss:min"]),
        ('objective = "spread"', ["spread:min"]),
        ('objectives = ["score", "parameters"]', ["score:max", "parameters:min"]),
        (
            'objectives = ["score:max", "steps_to_475:min", "seconds_per_action"]',
            ["score:max", "steps_to_475:min", "seconds_per_action:min"],
        ),
    ],
)
def test_a_measure_has_its_direction_of_itself(line: str, meant: list[str]) -> None:
    assert objectives(line) == meant


def test_the_score_is_the_default_and_an_objective_is_a_list_of_one() -> None:
    spec = Spec(name="x")
    assert spec.search.objectives == (SCORE,)
    assert spec.digest == parse('name = "x"\n[search]\nobjective = "score"', source="x").digest
    assert spec.digest == parse('name = "x"\n[search]\nobjectives = ["score"]', source="x").digest


def test_what_is_stored_is_read_again() -> None:
    lines = 'objectives = ["metric.q_mean:max", "steps_to_9"]\nover_seeds = "worst"'
    spec = parse(in_table("search", lines), source="x")
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.search.objectives[1].measure.threshold == 9.0


@pytest.mark.parametrize(
    ("line", "pruner"),
    [
        ("", "hyperband"),
        ('over_seeds = "median"', "hyperband"),
        ('objective = "auc"', "hyperband"),
        ('objective = "auc"\npruner = "median"', "median"),
        ('objective = "steps_to_475"', "none"),
        ('objective = "parameters"\npruner = "none"', "none"),
        ('objectives = ["score", "auc"]', "none"),
    ],
)
def test_without_something_to_judge_there_is_no_pruner(line: str, pruner: str) -> None:
    assert parse(in_table("search", line), source="x").search.pruner.name == pruner


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("objective = 'scroe'", ["search.objective: 'scroe';", "did you mean score?"]),
        ("objective = 4", ["search.objective: 4;"]),
        ("objective = 'steps_to_475:max'", ["must be steps_to_475:min"]),
        ("objective = 'score:min'", ["must be score:max"]),
        ("objective = 'score:high'", ['must be "max" or "min"']),
        ("objective = 'steps_to_'", ["search.objective: 'steps_to_';"]),
        ("objective = 'steps_to_1e9'", ["search.objective: 'steps_to_1e9';"]),
        ("objective = 'metric.loss'", ["must have a direction", "metric.loss:min"]),
        ("objectives = ['score', 'score:max']", ["search.objectives: score is there twice"]),
        ("objectives = 'score'", ["search.objectives: 'score';", "a list of 1 to 8"]),
        ("objectives = []", ["search.objectives: [];"]),
        ("objective = 'auc'\nobjectives = ['auc']", ["search.objective: is there beside"]),
        ("over_seeds = 'iqr'", ["search.over_seeds: 'iqr';", "did you mean iqm?"]),
        ("objectiv = 'auc'", ["search.objectiv: unknown key", "did you mean objective?"]),
        (
            "pruner = 'median'\nobjective = 'steps_to_475'",
            ["search.pruner: ", "pruners judge the returns of evaluations"],
        ),
        (
            "pruner = 'hyperband'\nobjectives = ['score', 'parameters']",
            ["search.pruner: ", "a pruner judges one value, and there are 2 objectives"],
        ),
        (
            "objective = 'parameters'\n[task]\nobjective = 'mine:train'",
            ["search.objectives: 'parameters'; it is not known of task.objective's models"],
        ),
        (
            "sampler = { name = 'cmaes', allow_pickle = true }\nobjectives = ['score', 'auc']",
            ['search.sampler: "cmaes" knows one objective and there are 2'],
        ),
        ("audit = 0.1\nobjective = 'auc'", ["search.audit: 0.1;", "must be 0"]),
    ],
)
def test_what_is_refused_and_why(line: str, words: list[str]) -> None:
    message = refusal(in_table("search", line))
    for each in words:
        assert each in message


def test_too_few_seeds_for_what_is_asked_are_refused() -> None:
    lone = 'name = "x"\n[task]\nseeds = {}\n[search]\n{}\n'
    assert "search.over_seeds: 'iqm'; over 3 seeds that is the mean" in refusal(
        lone.format(3, 'over_seeds = "iqm"')
    )
    assert "search.objectives: 'spread'; it is over" in refusal(
        lone.format(1, 'objective="spread"')
    )
    parse(lone.format(4, 'over_seeds = "iqm"'), source="x")


def test_values_are_told_with_the_digits_that_matter() -> None:
    assert [amount(value) for value in (0.0, 475.25, -200.0, 12_500.0, 2.134e-5)] == [
        *("0.0", "475.2", "-200.0", "12,500.0", "2.13e-05")
    ]
    assert [SCORE.told(value) for value in (1.041, 1.033, -1.5)] == ["1.041", "1.033", "-1.500"]
    assert Objective.parse("parameters").told(4_610.0) == "parameters 4,610.0"


def test_small_scores_have_more_decimals() -> None:
    assert [as_score(value) for value in (500.0, -1234.56, 2.0, 1.96, -0.25, 0.0)] == [
        "500.0",
        "-1,234.6",
        "2.0",
        "1.960",
        "-0.250",
        "0.000",
    ]
    assert as_score(0.27, like=480.0, sign="+") == "+0.3"
    assert as_score(0.27, like=0.9, sign="+") == "+0.270"


def test_the_largest_scores_fit_into_a_line() -> None:
    assert as_score(-1e300) == "-1e+300"
    assert as_score(1.25e15, sign="+") == "+1.25e+15"
    assert as_score(5.0, like=-1e300) == "5.0"
    assert as_score(999_999_999.0) == "999,999,999.0"
    assert amount(-1e160) == "-1e+160"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 6.0], 3.0),
        ([0.0, 1.0, 3.0, 100.0], 2.0),
        ([9.0, 500.0, 1.0, 2.0, 3.0, 4.0, 0.0, -7.0], 2.5),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 1e6], 4.5),
    ],
)
def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end(
    values: list[float], expected: float
) -> None:
    assert center(np.array(values), "iqm") == expected
