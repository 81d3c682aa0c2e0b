"""What is refused of a study file's stop rules, enqueued configurations and priority."""

from __future__ import annotations

import pytest

from tests.support.studyfiles import EXAMPLE, WHOLE, assert_refused, never_refused, refusal
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

FIELDS = [
    ("stop", "target = 'high'", "stop.target", ["'high'; must be a number"]),
    ("stop", "target = inf", "stop.target", ["inf; must be a number"]),
    ("stop", "no_improvement = 0", "stop.no_improvement", ["0;", WHOLE]),
    ("stop", "seconds = 0", "stop.seconds", ["0; must be a number above 0"]),
    ("stop", "steps = 1.5", "stop.steps", ["1.5;", WHOLE]),
    ("stop", "trials = 9", "stop.trials", ["unknown key"]),
]


@pytest.mark.parametrize(("table", "line", "field", "words"), FIELDS)
def test_refused(table: str, line: str, field: str, words: list[str]) -> None:
    assert_refused(table, line, field, words)


def test_each_rule_has_a_refusal() -> None:
    assert never_refused("stop", (field for _, _, field, _ in FIELDS)) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("gamma = 0.2", "enqueue[0].gamma: 0.2; must be a number from 0.9 to 0.99"),
        ("gamma = 0.91", "enqueue[0].gamma: 0.91; must be a whole number of steps of 0.03 above"),
        ("gamma = '0.9'", "enqueue[0].gamma: '0.9'; must be a number from 0.9 to 0.99"),
        ("batch_size = 48", "enqueue[0].batch_size: 48; must be a whole number of steps of 32"),
        ("batch_size = 64.0", "enqueue[0].batch_size: 64.0; must be a whole number from 32 to 128"),
        ("net_arch = [64]", "enqueue[0].net_arch: [64]; must be one of its choices"),
        ("double_q = 1", "enqueue[0].double_q: 1; must be one of its choices"),
        (
            "loss = 'mse'",
            "enqueue[0].loss: is fixed by the study file; must be a knob that is searched",
        ),
        ("gama = 1", "enqueue[0].gama: unknown key (did you mean gamma?)"),
        ("", "enqueue[0]: is empty; must set at least one searched knob (learning_rate, gamma"),
        ("gamma = 0.9\n[[enqueue]]\n", "enqueue[1]: is empty"),
    ],
)
def test_a_configuration_that_no_sampler_could_suggest_is_refused(lines: str, said: str) -> None:
    assert refusal(f"{EXAMPLE}\n[[enqueue]]\n{lines}\n").startswith(said)


def test_more_configurations_than_trials_are_refused() -> None:
    tables = "[[enqueue]]\ngamma = 0.9\n" * 21
    said = "enqueue: 21 configurations are more than search.trials (20); must be at most 20"
    assert refusal(f"{EXAMPLE}\n{tables}") == said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("enqueue = 4", "enqueue: 4; must be [[enqueue]] tables of searched knobs, at most 1000"),
        ("enqueue = [4]", "enqueue: [4]; must be [[enqueue]] tables"),
        ("priority = 0", "priority: 0; must be a whole number from 1 to 1000"),
        ("priority = 1.5", "priority: 1.5; must be a whole number from 1 to 1000"),
        ("stop = 4", "stop: 4; must be a table"),
    ],
)
def test_refused_as_a_whole(line: str, said: str) -> None:
    assert refusal(f'name = "x"\n{line}\n').startswith(said)


def test_all_of_it_is_stored_and_read_back() -> None:
    spec = parse(
        EXAMPLE
        + "[stop]\ntarget = 400\nno_improvement = 30\nseconds = 3600\nsteps = 1_000_000\n"
        + "[[enqueue]]\nnet_arch = [64, 64]\ndouble_q = true\n"
        + "[[enqueue]]\ngamma = 0.93\nbatch_size = 64\n",
        source="x.toml",
    )
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.stop.target == 400.0
    assert spec.enqueue[1] == {"gamma": 0.93, "batch_size": 64}
