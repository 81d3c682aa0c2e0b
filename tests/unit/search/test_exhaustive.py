"""Grid and brute force: each configuration once, whatever fails, is enqueued or runs at once."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import Trial, TrialState

from tests.support.studyfiles import refusal
from trialfleet.search import fixed
from trialfleet.search.numbered.points import Points, permuted
from trialfleet.search.parameters import encode
from trialfleet.search.samplers import make_sampler
from trialfleet.search.space import decode, suggest
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

# 3 ends of epsilon or 2 losses, with each of 3 + 9 networks.
CONDITIONAL = """
double_q = { choices = [true, false] }
exploration_final_eps = { low = 0.0, high = 0.1, step = 0.05, when = { double_q = true } }
loss = { choices = ["huber", "mse"], when = { double_q = false } }
net_arch = { layers = { low = 1, high = 2 }, width = { choices = [32, 64, 128] } }
"""
FLAT = """
gamma = { low = 0.9, high = 0.98, step = 0.02 }
batch_size = { choices = [16, 32] }
net_arch = { choices = [[32], [64, 64]] }
"""
SPACES = {"conditional": (CONDITIONAL, 60), "flat": (FLAT, 20)}


def spec_of(agent: str, sampler: str = '"brute_force"', trials: int = 1_000, seed: int = 5) -> Spec:
    return parse(
        f'name = "x"\nseed = {seed}\n[search]\ntrials = {trials}\nsampler = {sampler}\n'
        f"[final]\ntop = 1\n[agent]\n{agent}",
        source="x.toml",
    )


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    optuna.logging.set_verbosity(verbosity)


def search(spec: Spec, study: optuna.Study, *, failing: float, seed: int = 0) -> None:
    """Eight workers that claim as ours do, and end in any order, until the budget is spent."""
    rng = np.random.default_rng(seed)
    running: list[Trial] = []
    while True:
        states = Counter(trial.state for trial in study.get_trials(deepcopy=False))
        room = states.total() - states[TrialState.FAIL] < spec.budget
        if len(running) < 8 and (room or states[TrialState.WAITING]):
            trial = study.ask()
            # Made for the number that the trial has, which asking has told.
            study.sampler = make_sampler(spec, trial.number)
            running.append(Trial(study, trial._trial_id))
            suggest(running[-1], spec.agent)
        elif running:
            trial = running.pop(int(rng.integers(len(running))))
            if rng.random() < failing:
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, float(rng.random()))
        else:
            return


def tried(spec: Spec, study: optuna.Study) -> Counter[tuple[Any, ...]]:
    """How often each configuration was completed."""
    return Counter(
        tuple(sorted(trial.params.items()))
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    )


def new_study() -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler())


@pytest.mark.parametrize("failing", [0.0, 0.3], ids=["", "failing"])
@pytest.mark.parametrize("space", SPACES)
def test_each_configuration_is_completed_once(space: str, failing: float) -> None:
    agent, count = SPACES[space]
    spec = spec_of(agent)
    assert spec.budget == count
    study = new_study()
    search(spec, study, failing=failing)
    found = tried(spec, study)
    assert len(found) == count
    assert set(found.values()) == {1}
    configurations = {
        tuple(decode(trial.params, spec.agent).items()) for trial in study.get_trials()
    }
    assert len(configurations) == count
    assert any(trial.state == TrialState.FAIL for trial in study.trials) == (failing > 0)


@pytest.mark.parametrize("failing", [0.0, 0.3], ids=["", "failing"])
def test_enqueued_configurations_are_not_tried_again(failing: float) -> None:
    spec = spec_of(CONDITIONAL)
    study = new_study()
    study.enqueue_trial({"double_q": False, "loss": "mse", "net_arch.layers": 1,
                         "net_arch.width_1": 64})  # fmt: skip
    study.enqueue_trial({"net_arch.layers": 2, "net_arch.width_2": 128})
    for _ in range(11):
        trial = study.ask()
        study.sampler = make_sampler(spec, trial.number)
        suggest(Trial(study, trial._trial_id), spec.agent)
        study.tell(trial, 1.0)
    study.enqueue_trial({"double_q": True, "exploration_final_eps": 0.05})
    search(spec, study, failing=failing)
    found = tried(spec, study)
    assert (len(found), set(found.values())) == (60, {1})
    assert study.trials[0].params["net_arch.width_1"] == 64
    assert study.trials[1].params["net_arch.width_2"] == 128
    assert study.trials[11].params["exploration_final_eps"] == 0.05


def test_an_enqueued_trial_off_the_grid_is_one_of_the_budget() -> None:
    spec = spec_of("gamma = { low = 0.9, high = 0.98 }\ntau = { low = 0.1, high = 1.0 }", '"grid"')
    assert spec.budget == 25
    study = new_study()
    study.enqueue_trial({"gamma": 0.9123})
    search(spec, study, failing=0.3)
    found = tried(spec, study)
    assert (len(found), set(found.values())) == (25, {1})
    assert study.trials[0].params["gamma"] == 0.9123


def enqueued(agent: str, tables: str, **options: Any) -> tuple[Spec, optuna.Study]:
    """A study of a file with [[enqueue]] tables."""
    text = f"{agent}{tables}"
    spec = spec_of(text, **options)
    study = new_study()
    for table in spec.enqueue:
        study.enqueue_trial(encode(fixed.checked(table, spec.agent), spec.agent))
    return spec, study


@pytest.mark.parametrize("failing", [0.0, 0.4], ids=["", "failing"])
def test_what_is_enqueued_beside_the_configurations_takes_no_place_of_theirs(
    failing: float,
) -> None:
    agent = "gamma = { low = 0.9, high = 0.98 }\ntau = { low = 0.1, high = 1.0 }\n"
    tables = """
    [[enqueue]]
    gamma = 0.9123
    [[enqueue]]
    tau = 1.0
    gamma = 0.9
    [[enqueue]]
    gamma = 0.9
    tau = 1
    """
    spec, study = enqueued(agent, tables, sampler='"grid"')
    assert spec.budget == 25 + 2
    search(spec, study, failing=failing, seed=3)
    found = tried(spec, study)
    assert found.pop((("gamma", 0.9), ("tau", 1.0))) == 2
    (off,) = [params for params in found if dict(params)["gamma"] == 0.9123]
    assert (found.pop(off), len(found), set(found.values())) == (1, 24, {1})
    assert spec_of(f"{agent}{tables}", sampler='"grid"', trials=26).budget == 26


def test_imported_trials_are_none_of_them() -> None:
    spec = spec_of(FLAT)
    study = new_study()
    search(spec_of(FLAT, trials=4), study, failing=0.0)
    known = optuna.trial.create_trial(
        value=1.0,
        params=study.trials[0].params,
        distributions=study.trials[0].distributions,
        user_attrs={"imported": {"from": "x.csv", "number": 0}},
    )
    for _ in range(3):
        study.add_trial(known)
    for _ in range(16):
        trial = study.ask()
        study.sampler = make_sampler(spec, trial.number)
        suggest(Trial(study, trial._trial_id), spec.agent)
        study.tell(trial, 1.0)
    found = tried(spec, study)
    assert found.pop(tuple(sorted(known.params.items()))) == 1 + 3
    assert (len(found), set(found.values())) == (19, {1})


def test_an_enqueued_trial_with_another_value_for_a_fixed_knob_is_none_of_them() -> None:
    sampler = '{ name = "partial_fixed", fixed = { double_q = true }, wrapped = "grid" }'
    tables = "[[enqueue]]\ndouble_q = false\nnet_arch = [64]\n"
    spec, study = enqueued(CONDITIONAL, tables, sampler=sampler)
    assert spec.budget == 36 + 1
    search(spec, study, failing=0.0)
    assert (len(tried(spec, study)), study.trials[0].params["double_q"]) == (37, False)


def test_fewer_trials_than_configurations() -> None:
    spec = spec_of(FLAT, trials=7)
    assert spec.budget == 7
    studies = [new_study() for _ in range(3)]
    for seed, study in enumerate(studies):
        search(spec, study, failing=0.2, seed=seed)
        assert (tried(spec, study).total(), max(tried(spec, study).values())) == (7, 1)
    # A trial's configuration follows from the study file and its number.
    first, second = ([trial.params for trial in study.trials[:7]] for study in studies[:2])
    assert first == second
    other = new_study()
    search(spec_of(FLAT, trials=7, seed=6), other, failing=0.0)
    assert [trial.params for trial in other.trials] != first


def test_a_grid_of_ranges() -> None:
    agent = """
    learning_rate = { low = 1e-4, high = 1e-2, log = true }
    gamma = { low = 0.9, high = 0.98, step = 0.02 }
    batch_size = { low = 16, high = 256, log = true }
    train_freq = { low = 1, high = 2 }
    """
    spec = spec_of(agent, '{ name = "grid", points_per_range = 3 }')
    assert spec.budget == 3 * 3 * 3 * 2
    study = new_study()
    search(spec, study, failing=0.0)
    values = {
        name: sorted({trial.params[name] for trial in study.trials})
        for name in spec.agent.searched()
    }
    assert values["learning_rate"] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert values["gamma"] == [0.9, 0.94, 0.98]
    assert values["batch_size"] == [16, 64, 256]
    assert values["train_freq"] == [1, 2]


@pytest.mark.parametrize("wrapped", ['"grid"', '"brute_force"'])
def test_with_some_knobs_fixed(wrapped: str) -> None:
    sampler = f'{{ name = "partial_fixed", fixed = {{ double_q = true }}, wrapped = {wrapped} }}'
    spec = spec_of(CONDITIONAL, sampler)
    assert spec.budget == 36
    study = new_study()
    search(spec, study, failing=0.2)
    found = tried(spec, study)
    assert (len(found), set(found.values())) == (36, {1})
    assert {trial.params["double_q"] for trial in study.trials} == {True}


def test_endless_spaces_and_small_ones() -> None:
    text = 'name = "x"\n[search]\nsampler = "brute_force"\n[agent]\n'
    assert refusal(f"{text}gamma = {{ low = 0.9, high = 0.99 }}").startswith(
        'search.sampler: "brute_force" tries every value, and agent.gamma is a range'
    )
    two = f"{text}double_q = {{ choices = [true, false] }}\n"
    assert refusal(f"{two}[final]\ntop = 3").startswith(
        "final.top: 3 is more than there are configurations (2); must be at most 2"
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_an_order_is_a_permutation(count: int, seed: int) -> None:
    assert sorted(permuted(index, count, seed) for index in range(count)) == [*range(count)]


def test_an_order_needs_no_list() -> None:
    count = 10**30
    found = {permuted(index, count, 1) for index in range(100)}
    assert len(found) == 100
    assert all(0 <= each < count for each in found)
    assert max(found) > count // 2 > min(found)


@pytest.mark.parametrize("space", SPACES)
def test_points_are_numbered_without_gaps(space: str) -> None:
    spec = spec_of(SPACES[space][0])
    points = Points.of(spec.agent, most=None)
    found = [points.at(index) for index in range(points.count)]
    assert len({tuple(point.items()) for point in found}) == points.count
    assert [points.index_of(point) for point in found] == [*range(points.count)]
    assert points.index_of({**found[0], "double_q": 3, "gamma": 0.5}) is None
