"""Knobs that exist only under another's choice, and networks by layers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import optuna
import pytest

from tests.support.studyfiles import refusal
from trialfleet.errors import StudyMismatchError
from trialfleet.search import fixed
from trialfleet.search.knobs import Choices, IntRange, Layers
from trialfleet.search.parameters import encode, parameters
from trialfleet.search.samplers import make_sampler
from trialfleet.search.space import decode, describe, distributions, suggest
from trialfleet.study.differences import differences
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

AGENT = """
exploration_final_eps = { low = 0.0, high = 0.1, when = { double_q = true } }
max_grad_norm = { low = 1.0, high = 9.0, when = { loss = ["mse"] }, otherwise = 5 }
double_q = { choices = [true, false] }
loss = { choices = ["huber", "mse"], when = { double_q = false } }
net_arch = { layers = { low = 1, high = 3 }, width = { choices = [32, 64, 128] } }
gamma = { low = 0.9, high = 0.99 }
"""


def spec_of(agent: str = AGENT, sampler: str = '"random"', seed: int = 5) -> Spec:
    head = f'name = "x"\nseed = {seed}\n[search]\nsampler = {sampler}\n'
    return parse(f"{head}[final]\ntop = 1\n[agent]\n{agent}", source="x.toml")


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    optuna.logging.set_verbosity(verbosity)


def searched(spec: Spec, trials: int) -> optuna.Study:
    """A search with a fresh sampler for each trial, as workers do it."""
    study = optuna.create_study(direction="maximize")
    for number in range(trials):
        study.sampler = make_sampler(spec, number)
        trial = study.ask()
        values = suggest(trial, spec.agent)
        assert decode(trial.params, spec.agent) == values
        chosen = {name: values[name] for name in spec.agent.searched()}
        there = {name: value for name, value in encode(chosen, spec.agent).items()
                 if name in trial.params}  # fmt: skip
        assert there == trial.params, "encode is the inverse of decode"
        good = values["double_q"] + (values["net_arch"] == (64, 64)) - abs(values["gamma"] - 0.95)
        study.tell(trial, good)
    return study


def test_parents_come_first() -> None:
    found = [each.name for each in parameters(spec_of().agent)]
    widths = [f"net_arch.width_{layer}" for layer in (1, 2, 3)]
    assert sorted(found) == sorted(
        ["double_q", "exploration_final_eps", "loss", "max_grad_norm", "gamma",
         "net_arch.layers", *widths]
    )  # fmt: skip
    assert found.index("double_q") < found.index("loss") < found.index("max_grad_norm")
    assert found.index("double_q") < found.index("exploration_final_eps")
    assert list(distributions(spec_of().agent)) == found


@pytest.mark.parametrize(
    "sampler",
    [
        '"random"',
        '{ name = "tpe", group = true, n_startup_trials = 8 }',
        '"tpe"',
        '{ name = "tpe", multivariate = false }',
        '{ name = "gp", n_startup_trials = 8 }',
        '"qmc"',
        '{ name = "cmaes", allow_pickle = true }',
        '{ name = "nsga2", population_size = 4 }',
        '{ name = "nsga3", population_size = 4 }',
        '{ name = "grid", points_per_range = 3 }',
        '{ name = "partial_fixed", fixed = { net_arch = [64, 32] } }',
    ],
)
def test_only_what_exists_is_suggested(sampler: str) -> None:
    spec = spec_of(sampler=sampler)
    study = searched(spec, 11 if "gp" in sampler else 24)
    for trial in study.trials:
        params, values = trial.params, decode(trial.params, spec.agent)
        assert ("exploration_final_eps" in params) == params["double_q"]
        assert ("loss" in params) == (not params["double_q"])
        assert ("max_grad_norm" in params) == (params.get("loss") == "mse")
        layers = params["net_arch.layers"]
        assert [name for name in params if "width" in name] == [
            f"net_arch.width_{layer}" for layer in range(1, layers + 1)
        ]
        assert len(values["net_arch"]) == layers
        if params["double_q"]:
            # The algorithm's own default, and what the file says.
            assert (values["loss"], values["max_grad_norm"]) == ("huber", 5.0)
        else:
            assert values["exploration_final_eps"] == 0.05
    lengths = {trial.params["net_arch.layers"] for trial in study.trials}
    assert lengths == ({2} if "fixed" in sampler else {1, 2, 3})
    assert {trial.params["double_q"] for trial in study.trials} == {True, False}


def test_grouped_tpe_learns_in_each_branch() -> None:
    study = searched(spec_of(sampler='{ name = "tpe", group = true }'), 60)
    late = [trial.value or 0.0 for trial in study.trials[-15:]]
    random = [trial.value or 0.0 for trial in searched(spec_of(), 60).trials]
    assert sum(late) / len(late) > sum(random) / len(random) + 0.3


def test_the_text_of_a_study_says_all_of_it() -> None:
    spec = spec_of()
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.agent["net_arch"] == Layers(
        layers=IntRange(low=1, high=3), width=Choices(choices=(32, 64, 128))
    )
    table = spec.agent.as_table()
    assert table["exploration_final_eps"] == {
        "low": 0.0, "high": 0.1, "log": False, "when": {"double_q": [True]}, "otherwise": 0.05
    }  # fmt: skip
    assert table["net_arch"]["layers"] == {"low": 1, "high": 3, "log": False}
    other = spec_of(AGENT.replace("double_q = true }", "double_q = false }"))
    assert [line.partition(":")[0] for line in differences(spec, other)] == [
        "agent.exploration_final_eps"
    ]


def test_a_condition_without_a_default_of_the_algorithm() -> None:
    text = """
name = "x"
[task]
objective = "mine:train"
[parameters]
optimizer = { choices = ["sgd", "adam"] }
momentum = { low = 0.0, high = 0.99, when = { optimizer = "sgd" } }
"""
    spec = parse(text, source="x.toml")
    assert Spec.from_json(spec.to_json()) == spec
    assert decode({"optimizer": "adam"}, spec.agent) == {"optimizer": "adam", "momentum": None}


def test_how_it_is_described() -> None:
    rows = {name: (kind, values) for name, kind, values in describe(spec_of().agent)}
    assert rows["exploration_final_eps"] == (
        "range",
        "0.0 … 0.1; only if double_q is true, else 0.05",
    )
    assert rows["loss"] == ("choices", "huber, mse; only if double_q is false, else huber")
    assert rows["net_arch"] == ("layers", "1 … 3 layers, each 32, 64, 128 wide")


def test_params_of_another_study() -> None:
    spec = spec_of()
    whole = {"double_q": True, "exploration_final_eps": 0.0, "gamma": 0.9}
    with pytest.raises(StudyMismatchError, match=r"no value for net_arch\.layers"):
        decode(whole, spec.agent)
    with pytest.raises(StudyMismatchError, match=r"no value for net_arch\.width_2"):
        decode({**whole, "net_arch.layers": 2, "net_arch.width_1": 32}, spec.agent)


def test_configurations_by_hand() -> None:
    spec = spec_of()
    assert fixed.checked({"net_arch": [64, 32], "double_q": False}, spec.agent) == {
        "net_arch": (64, 32),
        "double_q": False,
    }
    assert encode({"net_arch": (64, 32)}, spec.agent) == {
        "net_arch.layers": 2,
        "net_arch.width_1": 64,
        "net_arch.width_2": 32,
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tau = { low = 0.1, high = 1.0, when = { double = true } }",
         "agent.tau.when.double: unknown key (did you mean double_q?)"),
        ("tau = { low = 0.1, high = 1.0, when = true }", "agent.tau.when: true; must be a table"),
        ("tau = { low = 0.1, high = 1.0, when = {} }", "agent.tau.when: a table; must be"),
        ("tau = { low = 0.1, high = 1.0, when = { gamma = 0.9 } }",
         "agent.tau.when.gamma: has no choices"),
        ("tau = { low = 0.1, high = 1.0, when = { tau = 0.9 } }",
         "agent.tau.when.tau: is the knob itself"),
        ("tau = { low = 0.1, high = 1.0, when = { double_q = 1 } }",
         "agent.tau.when.double_q: 1; must be one of its choices"),
        ("tau = { low = 0.1, high = 1.0, when = { double_q = [true, false] } }",
         "agent.tau.when.double_q: are all of its choices"),
        ("tau = { low = 0.1, high = 1.0, otherwise = 1.0 }",
         "agent.tau.otherwise: stands without when"),
        ("tau = { low = 0.1, high = 1.0, when = { double_q = true }, otherwise = 2 }",
         "agent.tau.otherwise: 2; must be a number above 0"),
        ("loss = { choices = ['huber', 'mse'], when = { precision = 'bf16' } }\n"
         "precision = { choices = ['fp32', 'bf16'], when = { loss = 'mse' } }",
         "agent.loss.when: loss and precision depend on each other"),
        ("net_arch = { layers = 2 }", "agent.net_arch.width: is missing"),
        ("net_arch = { layers = 2, width = 64 }", "agent.net_arch: are both plain numbers"),
        ("net_arch = { layers = { low = 1, high = 9 }, width = 64 }",
         "agent.net_arch.layers.high: 9; must be a whole number from 1 to 4"),
        ("net_arch = { layers = 2, width = { choices = [0] } }",
         "agent.net_arch.width.choices[0]: 0; must be a whole number from 1 to 4096"),
        ("net_arch = { layers = 2, width = { choices = [8] }, step = 1 }",
         "agent.net_arch.step: goes with other knobs"),
        ("tau = { layers = 2, width = 8 }", "agent.tau: layers and width; must be"),
    ],
)  # fmt: skip
def test_refused(line: str, message: str) -> None:
    head = "[agent]\ndouble_q = { choices = [true, false] }\n"
    assert refusal(f'name = "x"\n{head}{line}\n').startswith(message)


def test_checks_count_what_a_knob_is_otherwise() -> None:
    text = 'name = "x"\n[agent]\ndouble_q = { choices = [true, false] }\n' + (
        "batch_size = { choices = [8, 16], when = { double_q = true }, otherwise = 128 }\n"
        "buffer_size = 100\n"
    )
    assert refusal(text).startswith("agent.batch_size: up to 128 is more than the smallest buffer")
