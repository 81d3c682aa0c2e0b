"""What a constraint may be, when it is met, and what is refused."""

from __future__ import annotations

import pytest

from tests.support.studyfiles import refusal
from trialfleet.study.constraints import Constraint
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

FILE = 'name = "x"\n[[constraints]]\n{}\n'


def constraint(lines: str) -> Constraint:
    (found,) = parse(FILE.format(lines), source="x").constraints
    return found


@pytest.mark.parametrize(
    ("lines", "label", "met", "not_met", "excess"),
    [
        ("measure = 'parameters'\nat_most = 5_000", "parameters <= 5000", 5_000.0, 6_000.0, 0.2),
        ("measure = 'score'\nat_least = 400", "score >= 400", 400.0, 100.0, 0.75),
        ("measure = 'score'\nat_least = -110.5", "score >= -110.5", -110.5, -221.0, 1.0),
        ("measure = 'spread'\nat_most = 0", "spread <= 0", 0.0, 3.0, 3.0),
        (
            "measure = 'steps_to_475'\nat_most = 10\nover_seeds = 'worst'",
            "steps_to_475 (worst) <= 10",
            10.0,
            15.0,
            0.5,
        ),
        (
            "measure = 'seconds_per_action'\nat_most = 1e-4",
            "seconds_per_action <= 0.0001",
            1e-4,
            2e-4,
            1.0,
        ),
    ],
)
def test_a_constraint_is_met_up_to_its_bound(
    lines: str, label: str, met: float, not_met: float, excess: float
) -> None:
    found = constraint(lines)
    assert found.label == label
    assert found.excess(met) == 0.0
    assert found.excess(not_met) == pytest.approx(excess, rel=1e-12)


def test_what_is_stored_is_read_again() -> None:
    text = FILE.format("measure = 'auc'\nat_least = 1") + FILE.partition("\n")[2].format(
        "measure = 'metric.loss'\nat_most = 0.5\nover_seeds = 'median'"
    )
    spec = parse(text, source="x")
    assert [each.label for each in spec.constraints] == ["auc >= 1", "metric.loss (median) <= 0.5"]
    assert Spec.from_json(spec.to_json()) == spec
    assert Spec(name="x").constraints == ()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("at_most = 1", ["constraints[0].measure: is missing"]),
        ("measure = 'size'\nat_most = 1", ["constraints[0].measure: 'size';", '"parameters"']),
        ("measure = 'auc'", ["constraints[0]: needs a bound"]),
        (
            "measure = 'auc'\nat_most = 1\nat_least = 0",
            ["constraints[0]: needs a bound", "not both"],
        ),
        ("measure = 'auc'\nat_most = nan", ["constraints[0].at_most: nan;"]),
        ("measure = 'auc'\nat_least = 'much'", ["constraints[0].at_least: 'much';"]),
        ("measure = 'auc'\nat_mots = 1", ["constraints[0].at_mots: unknown key", "at_most?"]),
        (
            "measure = 'auc'\nat_most = 1\nover_seeds = 'sum'",
            ["constraints[0].over_seeds: 'sum';", '"worst"'],
        ),
        (
            "measure = 'auc'\nat_most = 1\n[[constraints]]\nmeasure = 'auc'\nat_most = 1",
            ["constraints[1]: auc <= 1 is there twice"],
        ),
        (
            "measure = 'spread'\nat_most = 1\n[task]\nseeds = 1",
            ["constraints[0].measure: 'spread'; it is over a trial's seeds"],
        ),
        (
            "measure = 'auc'\nat_most = 1\nover_seeds = 'iqm'\n[task]\nseeds = 3",
            ["constraints[0].over_seeds: 'iqm'; over 3 seeds"],
        ),
    ],
)
def test_what_is_refused_and_why(lines: str, words: list[str]) -> None:
    message = refusal(FILE.format(lines))
    for each in words:
        assert each in message


def test_constraints_are_tables() -> None:
    assert "constraints: 4; must be at most 16 tables" in refusal('name = "x"\nconstraints = 4')
    assert "constraints[0]" in refusal('name = "x"\nconstraints = [4]')
