from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from trialfleet.errors import StudyMismatchError
from trialfleet.search.knobs import Choices, FloatRange, IntRange, SearchSpace
from trialfleet.search.space import decode, describe, distributions, suggest
from worker.trainers.dqn.params import Params

DEFAULTS = SearchSpace.read({}, Params)
SEARCHED = SearchSpace.read(
    SearchSpace(
        {
            "double_q": Choices(choices=(True, False)),
            "learning_rate": FloatRange(low=1e-4, high=1e-2, log=True),
            "gamma": FloatRange(low=0.9, high=0.99, step=0.03),
            "batch_size": IntRange(low=32, high=128, step=32),
            "target_update_interval": IntRange(low=10, high=1_000, log=True),
            "train_freq": IntRange(low=1, high=8),
            "tau": Choices(choices=(0.5, 1.0)),
            "net_arch": Choices(choices=((32,), (64, 64))),
            "loss": Choices(choices=("huber", "mse")),
        }
    ),
    Params,
)


def test_distributions_in_the_order_of_the_declaration() -> None:
    assert list(distributions(SEARCHED).items()) == [
        ("learning_rate", FloatDistribution(1e-4, 1e-2, log=True)),
        ("gamma", FloatDistribution(0.9, 0.99, step=0.03)),
        ("batch_size", IntDistribution(32, 128, step=32)),
        ("train_freq", IntDistribution(1, 8)),
        ("target_update_interval", IntDistribution(10, 1_000, log=True)),
        ("tau", CategoricalDistribution([0.5, 1.0])),
        ("net_arch", CategoricalDistribution(["[32]", "[64, 64]"])),
        ("loss", CategoricalDistribution(["huber", "mse"])),
        ("double_q", CategoricalDistribution([True, False])),
    ]
    assert distributions(DEFAULTS) == {}


def test_suggest_sets_exactly_the_searched_knobs() -> None:
    trial = optuna.create_study().ask()
    values = suggest(trial, SEARCHED)
    assert list(values) == list(DEFAULTS)
    assert trial.distributions == distributions(SEARCHED)
    assert isinstance(values["net_arch"], tuple)
    assert values["gamma"] in (0.9, 0.93, 0.96, 0.99)
    assert values["batch_size"] in (32, 64, 96, 128)
    assert values["max_grad_norm"] == 10.0
    assert suggest(optuna.create_study().ask(), DEFAULTS) == dict(DEFAULTS)


def test_decode() -> None:
    params = {
        "learning_rate": 0.001,
        "gamma": 0.93,
        "batch_size": 64,
        "train_freq": 2,
        "target_update_interval": 99,
        "tau": 0.5,
        "net_arch": "[64, 64]",
        "loss": "mse",
        "double_q": False,
    }
    assert decode(params, SEARCHED) == {
        **DEFAULTS,
        **params,
        "net_arch": (64, 64),
    }
    with pytest.raises(StudyMismatchError, match="no value for tau"):
        decode({key: value for key, value in params.items() if key != "tau"}, SEARCHED)
    with pytest.raises(StudyMismatchError, match=r"net_arch = '\[64\]'"):
        decode({**params, "net_arch": "[64]"}, SEARCHED)


def test_describe() -> None:
    rows = {name: (kind, text) for name, kind, text in describe(SEARCHED)}
    assert list(rows) == list(DEFAULTS)
    assert rows["learning_rate"] == ("range", "0.0001 … 0.01 (log)")
    assert rows["gamma"] == ("range", "0.9 … 0.99 (step 0.03)")
    assert rows["train_freq"] == ("range", "1 … 8")
    assert rows["net_arch"] == ("choices", "[32], [64, 64]")
    assert rows["double_q"] == ("choices", "true, false")
    assert rows["loss"] == ("choices", "huber, mse")
    assert rows["buffer_size"] == ("fixed", "50000")
    assert ("net_arch", "fixed", "[64, 64]") in describe(DEFAULTS)


WIDTHS = st.lists(st.integers(1, 4096), min_size=1, max_size=4)

# Ranges of every kind inside of these: knob, low, high, whole numbers or not.
LIMITS: list[tuple[str, float, float]] = [
    ("learning_rate", 1e-9, 1.0),
    ("gamma", 0.0, 1.0),
    ("tau", 1e-6, 1.0),
    ("max_grad_norm", 1e-3, 1e9),
    ("exploration_fraction", 0.0, 1.0),
    ("batch_size", 1, 65_536),
    ("train_freq", 1, 1_000_000),
    ("learning_starts", 0, 1_000_000_000),
]


@st.composite
def knobs(draw: st.DrawFn) -> dict[str, Any]:
    """What a study file may say under [agent]."""
    table: dict[str, Any] = {}
    for name, least, most in LIMITS:
        number: st.SearchStrategy[Any] = (
            st.integers(int(least), int(most))
            if isinstance(least, int)
            else st.floats(least, most, allow_subnormal=False)
        )
        kind = draw(st.sampled_from(["fixed", "range", "log", "step", "choices", "default"]))
        low, high = sorted(draw(st.lists(number, min_size=2, max_size=2, unique=True)))
        match kind:
            case "fixed":
                table[name] = low
            case "range":
                table[name] = {"low": low, "high": high}
            case "log" if low > 0:
                table[name] = {"low": low, "high": high, "log": True}
            case "step" if isinstance(least, int):
                table[name] = {"low": low, "high": high, "step": high - low}
            case "choices":
                table[name] = {"choices": [high, low]}
    table["net_arch"] = {"choices": draw(st.lists(WIDTHS, min_size=1, max_size=4, unique_by=tuple))}
    table["double_q"] = draw(st.sampled_from([True, {"choices": [True, False]}]))
    return table


@settings(deadline=None)
@given(knobs(), st.integers(0, 2**32 - 1))
def test_what_is_suggested_is_legal_and_comes_back_from_the_trial(
    table: dict[str, Any], seed: int
) -> None:
    space = SearchSpace.read(table, Params)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    values = suggest(trial, space)
    assert decode(trial.params, space) == values
    # Legal: as plain values, the file's own checks take them, and leave them as they are.
    assert dict(SearchSpace.read(values, Params)) == values
    assert [type(value) for value in SearchSpace.read(values, Params).values()] == [
        type(value) for value in values.values()
    ]
    for name, given_value in table.items():
        if isinstance(given_value, dict) and "low" in given_value:
            assert given_value["low"] <= values[name] <= given_value["high"]
        elif isinstance(given_value, dict):
            assert (
                list(values[name]) if name == "net_arch" else values[name] in given_value["choices"]
            )
        else:
            assert values[name] == given_value
