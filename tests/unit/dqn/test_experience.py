"""What an agent remembers of its steps, and what it makes of numbers that are none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import evaluations, training
from worker.trainers.dqn.params import Params
from worker.trainers.protocol import NonFiniteError


def remembered(env_id: str) -> tuple[torch.Tensor, ...]:
    """All that a single agent stored in order, of 900 steps with random actions.

    Observations before and after [O, B], actions, rewards, ends [B].
    """
    params = replace(PARAMS, learning_starts=900, buffer_size=900)
    running = training([3], params, env_id)
    evaluations(running)
    size = running.state()["replay.rows"].shape[1]
    assert size == 900, "all steps are transitions"
    states, *others = (
        part[0, 0] for part in running._replay.sample(torch.arange(size)[None, None])
    )
    return states[0], states[1], *(each[0] for each in others)


class Counting(gymnasium.Env[Any, Any]):
    """Counts its steps: the fifth one terminates where the first action was 1, or is faulty.

    Args:
        fault: What is bad in the fifth step, the "reward" or the "observation".
        bad: What it is then.
        harmless: Copies that are made before the first faulty one.
    """

    observation_space = gymnasium.spaces.Box(-1.0, 99.0, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    made = 0

    def __init__(self, fault: str = "", bad: float = np.nan, harmless: int = 0) -> None:
        Counting.made += 1
        self._bad = bad
        self._fault = fault if Counting.made > harmless else ""

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self._count, self._first = 0, -1
        return np.array([0, -1], np.float32), {}

    def step(self, action: Any) -> Any:
        if not self._count:
            self._first = int(action)
        self._count += 1
        ends = self._count == 5 and self._first == 1
        fault = self._fault if self._count == 5 else ""
        reward = self._bad if fault == "reward" else 1.0
        seen = self._bad if fault == "observation" else self._first
        return np.array([self._count, seen]), reward, ends, False, {}


@pytest.fixture
def counting_envs() -> Any:
    Counting.made = 0
    kinds: dict[str, dict[str, Any]] = {
        "Counting-v0": {},
        "Nan-v0": {"fault": "reward"},
        "Blind-v0": {"fault": "observation"},
        "Huge-v0": {"fault": "reward", "bad": 1e39},
        "Wide-v0": {"fault": "observation", "bad": 1e300},
        # One is made to look at, two to train in; the next ones are an evaluation's.
        "Late-v0": {"fault": "reward", "harmless": 3},
    }
    for name, arguments in kinds.items():
        gymnasium.register(name, lambda **kw: Counting(**kw), max_episode_steps=8, kwargs=arguments)
    yield
    for name in kinds:
        del gymnasium.registry[name]


@pytest.mark.usefixtures("counting_envs")
def test_the_memory_holds_what_followed_and_tells_the_two_ends_apart() -> None:
    """Catches the next episode's start taken for what followed an action, and ends mixed up."""
    s_tm1, s_t, a_tm1, r_t, terminal_t = remembered("Counting-v0")
    before, after = s_tm1[0], s_t[0]
    assert torch.equal(after, before + 1)  # the next start would lead back to 0
    assert (r_t == 1).all()
    ended_by_itself = (after == 5) & (s_t[1] == 1)
    assert torch.equal(terminal_t, ended_by_itself.float())
    assert ended_by_itself.any()
    assert (after == 8).any()  # truncated, and not terminal
    assert not ((before == 5) & (s_tm1[1] == 1)).any()
    first = before == 0
    assert torch.equal(a_tm1[first].float(), s_t[1, first])


def test_cartpoles_memory_is_one_of_cartpoles_steps() -> None:
    s_tm1, s_t, _, r_t, terminal_t = remembered("CartPole-v1")
    assert (r_t == 1).all()
    torch.testing.assert_close(s_t[0], s_tm1[0] + 0.02 * s_tm1[1])
    fallen = (s_t[0].abs() > 2.4) | (s_t[2].abs() > np.pi / 15)
    assert torch.equal(terminal_t, fallen.float())


@pytest.mark.usefixtures("counting_envs")
@pytest.mark.parametrize(
    ("params", "env_id", "says"),
    [
        (replace(PARAMS, learning_rate=1e30), "CartPole-v1", r"agent 0 \(seed 4\): .* step 300"),
        (PARAMS, "Nan-v0", r"agent 0 \(seed 4\): a reward of Nan-v0 is not finite at step 5"),
        (PARAMS, "Late-v0", r"agent 0 \(seed 4\): a return of Late-v0 is not finite at step 300"),
        (
            PARAMS,
            "Blind-v0",
            r"agent 0 \(seed 4\): an observation of Blind-v0, .* is not finite at",
        ),
        (
            PARAMS,
            "Huge-v0",
            r"agent 0 \(seed 4\): a reward of Huge-v0 is 1e\+39 at step 5, which 32-bit",
        ),
        (PARAMS, "Wide-v0", r"an observation of Wide-v0, as a 32-bit float, is not finite at"),
    ],
    ids=["diverging", "reward in training", "reward in evaluation", "observation", "huge", "wide"],
)
def test_what_is_not_finite_ends_the_training(params: Params, env_id: str, says: str) -> None:
    with pytest.raises(NonFiniteError, match=says):
        evaluations(training([4, 5], params, env_id))


@pytest.mark.parametrize(
    ("learning_starts", "says"), [(50, "training loss"), (900, "network")], ids=["loss", "network"]
)
def test_the_agent_that_diverged_is_named(learning_starts: int, says: str) -> None:
    running = training([4, 5], replace(PARAMS, learning_starts=learning_starts))
    running._agent.online.flat[1, 3] = float("inf")
    with pytest.raises(NonFiniteError, match=rf"agent 1 \(seed 5\): {says} is not finite"):
        evaluations(running)
