"""Study files of one's own training: a free space, and nothing that speaks of environments."""

from __future__ import annotations

import json

import optuna
import pytest

from tests.support.studyfiles import refusal
from trialfleet.search.knobs import Choices, FloatRange, IntRange
from trialfleet.search.space import decode, describe, suggest
from trialfleet.study.differences import differences
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

STUDY = """
name = "x"
[task]
objective = "mine:train"
train_steps = 20
eval_every = 2
{task}
[parameters]
{parameters}
"""
SPACE = """
rate = { low = 1e-4, high = 1, log = true }
width = { low = 8, high = 64, step = 8 }
layers = { choices = [[8], [8, 8]] }
activation = { choices = ["relu", "tanh"] }
mixed = { choices = [1, 0.5, "auto"] }
epochs = 3
data = "digits"
betas = [0.9, 0.999]
"""


def of(parameters: str, task: str = "") -> Spec:
    return parse(STUDY.format(parameters=parameters, task=task), source="x")


def test_the_space_is_the_files_own() -> None:
    spec = of(SPACE)
    assert (spec.task.algorithm, spec.task.env, spec.task.subject) == ("function", "", "mine:train")
    assert dict(spec.agent) == {
        "rate": FloatRange(low=1e-4, high=1.0, log=True),
        "width": IntRange(low=8, high=64, step=8),
        "layers": Choices(choices=((8,), (8, 8))),
        "activation": Choices(choices=("relu", "tanh")),
        "mixed": Choices(choices=(1, 0.5, "auto")),
        "epochs": 3,
        "data": "digits",
        "betas": (0.9, 0.999),
    }
    trial = optuna.create_study().ask()
    values = suggest(trial, spec.agent)
    assert decode(trial.params, spec.agent) == values
    assert values["betas"] == (0.9, 0.999)
    assert [row[0] for row in describe(spec.agent)] == list(spec.agent)


def test_it_is_stored_as_its_file_says_it() -> None:
    spec = of(SPACE)
    stored = json.loads(spec.to_json())
    assert stored["parameters"]["layers"] == {"choices": [[8], [8, 8]]}
    assert "agent" not in stored
    assert not {"env", "keep", "eval_episodes", "score_episodes"} & stored["task"].keys()
    assert Spec.from_json(spec.to_json()) == spec
    assert "objective" not in json.loads(parse('name = "x"', source="x").to_json())["task"]


def test_a_difference_is_told_under_parameters() -> None:
    assert differences(of("rate = 1"), of("rate = 2")) == ["parameters.rate: 1 there, 2 here"]


@pytest.mark.parametrize(
    ("task", "parameters", "message"),
    [
        ('env = "CartPole-v1"', "", "task.env: stands beside objective, whose function decides"),
        ('keep = "last"', "", "task.keep: stands beside objective"),
        ("eval_episodes = 3", "", "task.eval_episodes: stands beside objective"),
        ("score_episodes = 3", "", "task.score_episodes: stands beside objective"),
        ('algorithm = "dqn"', "", "task.algorithm: 'dqn' stands beside objective; must be left"),
        ("sedes = 3", "", "task.sedes: unknown key (did you mean seeds?)"),
        ("", "rate = nan", "parameters.rate: nan; must be a finite number, true, false, text"),
        ("", "rate = [[1]]", "parameters.rate: a list; must be a finite number"),
        ("", "rate = 2026-01-01", "parameters.rate: a date or time; must be"),
        ("", "rate = { low = 1, high = 1 }", "parameters.rate.low: 1 is also high"),
        ("", "rate = { low = 1 }", "parameters.rate.high: is missing"),
        ("", "rate = { low = 'a', high = 2 }", "parameters.rate.low: 'a'; must be a number"),
        ("", "rate = { hihg = 2 }", "parameters.rate.hihg: unknown key (did you mean high?)"),
        ("", "rate = { choices = [] }", "parameters.rate.choices: an empty list"),
        ("", '"a b" = 2', "parameters.'a b': must be a name of letters, digits and underscores"),
        ("", "lambda = 2", "parameters.lambda: must be a name"),
        ("", "[agent]\nrate = 2", "agent: goes with an algorithm; what task.objective takes"),
        ("", "[search]\nsampler = { name = 'cmaes', allow_pickle = true }", "search.sampler: "),
    ],
)
def test_what_is_refused(task: str, parameters: str, message: str) -> None:
    text = STUDY.format(task=task, parameters=parameters)
    assert refusal(text).startswith(message), refusal(text)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ('objective = "mine"', "task.objective: 'mine'; must be \"module:function\", such as"),
        ("objective = 3", "task.objective: 3; must be"),
        ('objective = "worker.mine:train"', "task.objective: 'worker.mine:train'; 'worker' is a"),
        ('algorithm = "function"', "task.objective: is missing; must name your function"),
        ("seeds = 2\n[parameters]\nx = 1", "parameters: goes with task.objective"),
    ],
)
def test_what_is_no_such_study(task: str, message: str) -> None:
    text = f'name = "x"\n[task]\n{task}\n'
    assert refusal(text).startswith(message), refusal(text)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        # Optuna looks choices up: of 1 and True it finds the first.
        (
            'mixed = { choices = [1, "0", true] }',
            "parameters.mixed.choices[2]: true is the same to Optuna as 1; must be unlike the",
        ),
        ('mixed = { choices = ["0", "0"] }', "parameters.mixed.choices[1]: '0' is there twice"),
        (
            'rate = { low = 0, high = 1.5 }\n[search]\nsampler = "brute_force"',
            'search.sampler: "brute_force" tries every value, and parameters.rate is a range',
        ),
        ("rate = { min = 1, max = 2 }", "parameters.rate.min: unknown key; a range is { low = 1"),
    ],
)
def test_what_is_refused_has_the_names_of_the_file(parameters: str, said: str) -> None:
    assert refusal(STUDY.format(parameters=parameters, task="")).startswith(said)
