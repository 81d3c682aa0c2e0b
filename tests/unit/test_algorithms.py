"""A second algorithm is one folder and one line: here it is made, and a study file names it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from tests.support.studyfiles import EXAMPLE, refusal
from trialfleet.search import algorithms
from trialfleet.search.knobs import Choices, FloatRange
from trialfleet.search.space import decode, describe, suggest
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

PARAMS = '''
from dataclasses import dataclass

from trialfleet.checking.mistakes import FieldError
from trialfleet.checking.rules import OneOf, Real, Whole, knob


@dataclass(frozen=True, kw_only=True)
class Params:
    """Cross-entropy method."""

    elite: int = knob(10, Whole(1, 1_000))  # samples that make the next generation
    population: int = knob(50, Whole(2, 1_000))  # samples of a generation
    noise: float = knob(0.1, Real(0, 10))  # added to the deviation
    shape: str = knob("diagonal", OneOf(("diagonal", "full")))  # of the covariance

    @staticmethod
    def check(space, task):
        if space.largest("elite") > space.smallest("population"):
            raise FieldError("more than the population", at="elite")
        if space.largest("population") > task.train_steps:
            raise FieldError("more than task.train_steps", at="population")

    @staticmethod
    def learns_by(space):
        return 0
'''

STUDY = """
name = "x"
[task]
algorithm = "cem"
[agent]
{agent}
"""


@pytest.fixture(autouse=True)
def _cem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "toy_trainers" / "cem"
    folder.mkdir(parents=True)
    (folder / "params.py").write_text(PARAMS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(algorithms.ALGORITHMS, "cem", "toy_trainers.cem")
    for name in ("toy_trainers", "toy_trainers.cem", "toy_trainers.cem.params"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def of(agent: str) -> Spec:
    return parse(STUDY.format(agent=agent), source="x")


def test_its_knobs_are_those_of_agent() -> None:
    spec = of("noise = { low = 0.0, high = 1 }\nshape = { choices = ['full', 'diagonal'] }")
    assert dict(spec.agent) == {
        "elite": 10,
        "population": 50,
        "noise": FloatRange(low=0.0, high=1.0),
        "shape": Choices(choices=("full", "diagonal")),
    }
    assert Spec.from_json(spec.to_json()) == spec
    trial = optuna.create_study().ask()
    values = suggest(trial, spec.agent)
    assert list(trial.params) == ["noise", "shape"]
    assert decode(trial.params, spec.agent) == values
    params = algorithms.params_of(spec.task.algorithm)(**values)
    assert params.elite == 10  # type: ignore[attr-defined]
    assert [row[0] for row in describe(spec.agent)] == ["elite", "population", "noise", "shape"]


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ("elite = 0", "agent.elite: 0; must be a whole number from 1 to 1000"),
        ("noise = { low = 1, high = 11 }", "agent.noise.high: 11; must be a number from 0 to 10"),
        ("shape = 'ful'", 'agent.shape: \'ful\'; must be one of "diagonal", "full" (did you'),
        ("elit = 4", "agent.elit: unknown key (did you mean elite?)"),
        ("gamma = 0.9", "agent.gamma: unknown key; known here: elite, population, noise, shape"),
        ("elite = 4\n[final]\ntopp = 4", "final.topp: unknown key"),
        ("elite = 0\nnoize = 4", "agent.noize: unknown key (did you mean noise?)"),
        ("elite = { low = 1, high = 51 }", "agent.elite: more than the population"),
        ("elite = 1\n[search]\nsampler = { name = 'cmaes', allow_pickle = true }", "search.sampl"),
    ],
)
def test_its_knobs_are_checked(agent: str, message: str) -> None:
    assert refusal(STUDY.format(agent=agent)).startswith(message)


def test_its_knobs_are_checked_against_the_task() -> None:
    text = STUDY.format(agent="").replace("[agent]", "train_steps = 40\neval_every = 40")
    assert refusal(text) == "agent.population: more than task.train_steps"


def test_a_knob_at_the_top_belongs_under_agent() -> None:
    text = "noise = 1\n" + STUDY.format(agent="")
    assert refusal(text) == "noise: unknown key here; it belongs under [agent]"


def test_the_dqns_knobs_stay_the_dqns() -> None:
    assert refusal("name = 'x'\n[agent]\nelite = 4").startswith("agent.elite: unknown key")
    assert refusal("gamma = 0.9\nname = 'x'") == (
        "gamma: unknown key here; it belongs under [agent]"
    )


def test_an_algorithm_that_is_not_there_is_named_before_its_knobs() -> None:
    text = STUDY.format(agent="elite = 4").replace("cem", "ces")
    wanted = 'task.algorithm: \'ces\'; must be one of "dqn", "function", "cem" (did'
    assert refusal(text).startswith(wanted)


def test_loading_and_checking_a_study_file_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(EXAMPLE, encoding="utf-8")
    code = (
        "import sys; from pathlib import Path;"
        "from trialfleet.cli.check import load_checked, study_report;"
        "study_report(*load_checked(Path(sys.argv[1])));"
        "print([m for m in ('torch', 'sqlalchemy', 'gymnasium') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.toml")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
