"""Bounds of returns: what is known, what a study may declare, and what becomes of a wrong one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.support.studyfiles import assert_refused, in_table
from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import ends, training
from tests.unit.function import functions
from tests.unit.function.test_training import all_of
from tests.unit.function.test_training import training as own_training
from trialfleet.study.file import parse
from trialfleet.study.returns import _STEPS, OutsideReturnsError, Returns
from trialfleet.study.spec import Spec
from worker.trainers.dqn.builtin_envs import world_of
from worker.trainers.dqn.trainer import Training
from worker.trainers.function.trainer import Training as OwnTraining
from worker.trainers.protocol import Evaluation, Score


def of_task(lines: str) -> Returns | None:
    return parse(in_table("task", lines), source="x").returns


@pytest.mark.parametrize(
    ("lines", "bounds"),
    [
        ("env = 'CartPole-v1'", (0, 500)),
        ("env = 'CartPole-v0'", (0, 200)),
        ("env = 'Acrobot-v1'", (-500, 0)),
        ("env = 'MountainCar-v0'", (-200, 0)),
        ("env = 'CartPole-v1'\nmax_episode_steps = 90", (0, 90)),
        ("env = 'MountainCar-v0'\nmax_episode_steps = 1_000", (-1000, 0)),
        ("env = 'CartPole-v1'\nreturns = { low = -3, high = 500 }", (-3, 500)),
        ("env = 'FrozenLake-v1'\nreturns = { low = 0, high = 1 }", (0, 1)),
        ("env = 'CartPole-v1'\nwrappers = ['m:C']\nreturns = { low = 7, high = 8.5 }", (7, 8.5)),
        ("objective = 'm:f'\nreturns = { low = -1e12, high = 1e12 }", (-1e12, 1e12)),
        # Something that may change the reward, or of which nothing is known.
        ("env = 'CartPole-v1'\nenv_args = { sutton_barto_reward = true }", None),
        ("env = 'CartPole-v1'\nwrappers = ['m:C']", None),
        ("env = 'm:CartPole-v1'", None),
        ("env = 'LunarLander-v3'", None),
        ("objective = 'm:f'", None),
    ],
)
def test_the_bounds_are_those_declared_or_known(
    lines: str, bounds: tuple[float, float] | None
) -> None:
    assert of_task(lines) == (bounds and Returns(low=bounds[0], high=bounds[1]))


@pytest.mark.parametrize("env_id", _STEPS)
def test_what_is_known_is_what_gymnasium_registers(env_id: str) -> None:
    low, high, limit = _STEPS[env_id]
    assert gymnasium.spec(env_id).max_episode_steps == limit
    assert world_of(env_id) is not None  # nothing but a time limit around the class that we compile
    env, rewards = gymnasium.make(env_id), set()
    env.action_space.seed(1)
    for episode in range(5):
        env.reset(seed=episode)
        ended = False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            rewards.add(float(reward))
            ended = terminated or truncated
    assert all(low <= reward <= high for reward in rewards)


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        ("returns = [0, 1]", "task.returns", ["[0, 1]; must be { low = …, high = … }"]),
        ("returns = 500", "task.returns", ["500; must be { low = …, high = … }"]),
        (
            "returns = { low = 0 }",
            "task.returns.high",
            ["is missing; must be a number from"],
        ),
        ("returns = { high = 0 }", "task.returns.low", ["is missing; must be a number"]),
        ("returns = { low = 1, high = 1 }", "task.returns.high", ["1 is not above low (1)"]),
        ("returns = { low = 1, high = nan }", "task.returns.high", ["a number from -1e+12"]),
        ("returns = { low = -inf, high = 1 }", "task.returns.low", ["a number from -1e+12"]),
        ("returns = { low = '0', high = 1 }", "task.returns.low", ["'0'; must be a number"]),
        ("returns = { low = 0, hi = 1 }", "task.returns.hi", ["unknown key", "high"]),
        (
            "returns = { low = 9, high = 500 }",
            "task.returns",
            ["9 to 500; episodes of CartPole-v1 return 0 to 500, which it must contain"],
        ),
    ],
)
def test_other_bounds_are_refused(line: str, field: str, words: list[str]) -> None:
    assert_refused("task", line, field, words)


def test_a_study_without_them_is_stored_as_ever() -> None:
    # What 0.2.0 stored before there was such a field.
    spec = parse('name = "x"', source="x")
    assert spec.digest == "75f29135b46f40b514a6ecb9abb8837c1688e22d84df85f931593e8f72563b4a"
    assert "returns" not in spec.to_json()


def test_a_study_with_them_is_read_again() -> None:
    spec = parse(in_table("task", "returns = { low = -1, high = 500 }"), source="x")
    assert json.loads(spec.to_json())["task"]["returns"] == {"high": 500.0, "low": -1.0}
    assert Spec.from_json(spec.to_json()) == spec
    assert Spec.from_json(spec.to_json()).returns == Returns(low=-1, high=500)


def test_rounding_is_within() -> None:
    bounds = Returns(low=-2, high=1)
    assert np.cumsum([-0.05] * 40)[-1] < -2  # as an environment sums its rewards
    inside = [-2, 1, float(np.cumsum([-0.05] * 40)[-1]), 10 * float(np.float32(0.1))]
    assert inside[-1] > 1
    assert bounds.first_outside(inside) is None
    assert [bounds.first_outside([0, each]) for each in (-2.001, 1.001, np.nan)] == [1, 1, 1]


def limited(bounds: Returns, **ways: Any) -> Training:
    running = training([4, 5], PARAMS, **ways)
    running._job = replace(running._job, returns=bounds)
    return running


WAYS: list[dict[str, Any]] = [{}, {"compiled": True}, {"tensors": True}]


@pytest.mark.parametrize("ways", WAYS, ids=["pytorch", "compiled", "tensors"])
def test_an_episode_outside_of_them_ends_the_training(ways: dict[str, Any]) -> None:
    # Both agents' means are within: it is the single episode that counts.
    events = training([4, 5], PARAMS, **ways).run()
    first = next(event for event in events if isinstance(event, Evaluation))
    running = limited(Returns(low=0, high=float(first.metrics["return"].max())), **ways)
    says = r"agent \d \(seed \d\): an episode of CartPole-v1 returned \d+ at step 300, outside of"
    with pytest.raises(OutsideReturnsError, match=rf"{says} task\.returns \(0 to [\d.]+\)"):
        ends(running)


@pytest.mark.parametrize("ways", WAYS, ids=["pytorch", "compiled", "tensors"])
def test_one_of_the_score_does_too(ways: dict[str, Any]) -> None:
    running = limited(Returns(low=0, high=500), **ways)
    events = running.run()
    last = next(event for event in events if isinstance(event, Evaluation) and event.step == 900)
    assert last.metrics["return"].min() > 1
    running._job = replace(running._job, returns=Returns(low=0, high=1))
    with pytest.raises(OutsideReturnsError, match="at step 900"):
        list(events)


@pytest.mark.parametrize("ways", WAYS, ids=["pytorch", "compiled", "tensors"])
def test_within_them_nothing_changes(ways: dict[str, Any]) -> None:
    plain = ends(training([4, 5], PARAMS, **ways))[-1]
    bounded = ends(limited(Returns(low=0, high=500), **ways))[-1]
    assert isinstance(plain, Score)
    assert isinstance(bounded, Score)
    assert np.array_equal(plain.returns, bounded.returns)


def own(function: str, bounds: Returns) -> OwnTraining:
    trainer = own_training(function, seeds=[10])
    trainer._job = replace(trainer._job, returns=bounds)
    return trainer


def test_a_score_of_ones_own_training_outside_of_them_ends_it() -> None:
    functions.heard.clear()
    says = r"seed 10: .*functions:constant returns 7 at step 0, outside of task\.returns"
    with pytest.raises(OutsideReturnsError, match=rf"{says} \(0 to 6\.5\)"):
        all_of(own("constant", Returns(low=0, high=6.5)))
    assert all_of(own("constant", Returns(low=0, high=7)))[-1] == (12, [7.0])


def test_a_value_that_it_reports_does_too() -> None:
    with pytest.raises(OutsideReturnsError, match=r"forgetful reports 6 at step 6, outside of"):
        all_of(own("forgetful", Returns(low=0, high=5)))
