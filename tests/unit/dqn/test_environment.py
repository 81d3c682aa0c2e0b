"""What is put around an environment: arguments, time limit, wrappers, and vectors of floats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from trialfleet.errors import StudyFileError
from worker.trainers.environment import Environment, Wrapping, make_one
from worker.trainers.envs import Copies, inspect_env


class Showing(gymnasium.Env[Any, Any]):
    """Shows what it is told to, and remembers what was done."""

    done: list[Any] = []  # noqa: RUF012 - the tests look at it

    def __init__(self, space: Any, shown: Any, actions: Any = None) -> None:
        self.observation_space, self._shown = space, shown
        self.action_space = actions or Discrete(2)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        return self._shown, {}

    def step(self, action: Any) -> Any:
        self.done.append(action)
        return self._shown, 1.0, False, False, {}


def _showing(**arguments: Any) -> Showing:
    return Showing(**arguments)


class Doubling(gymnasium.RewardWrapper[Any, Any]):
    """Pays so many times as much."""

    def __init__(self, env: Any, factor: float = 2.0) -> None:
        super().__init__(env)
        self._factor = factor

    def reward(self, reward: Any) -> float:
        return float(reward) * self._factor


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(gymnasium.registry)
    gymnasium.register("Showing-v0", _showing, max_episode_steps=9)
    gymnasium.register("ShowingForever-v0", _showing)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)
    Showing.done.clear()


def showing(space: Any, shown: Any, **more: Any) -> Environment:
    return Environment(id="Showing-v0", args={"space": space, "shown": shown, **more})


PICTURE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
SPACES: dict[str, tuple[Any, Any, list[float]]] = {
    "box": (Box(-1, 1, (2,), np.float32), np.array([0.5, -1], np.float32), [0.5, -1]),
    "bytes": (Box(0, 255, (2,), np.uint8), np.array([7, 255], np.uint8), [7, 255]),
    "picture": (Box(0, 255, (2, 2, 3), np.uint8), PICTURE, [float(x) for x in range(12)]),
    "number": (Box(-1, 1, (), np.float32), np.float32(0.25), [0.25]),
    "discrete": (Discrete(4), 2, [0, 0, 1, 0]),
    "discrete from 1": (Discrete(3, start=1), 1, [1, 0, 0]),
    "multi-discrete": (MultiDiscrete([2, 3]), np.array([1, 2]), [0, 1, 0, 0, 1]),
    "multi-binary": (MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1]),
    "tuple": (Tuple([Discrete(2), Box(0, 9, (1,))]), (1, np.array([3.0])), [0, 1, 3]),
    "dict": (
        Dict({"way": Discrete(2), "seen": Box(0, 255, (1, 2), np.uint8)}),
        {"way": 0, "seen": np.array([[4, 5]], np.uint8)},
        [4, 5, 1, 0],  # by name
    ),
}


@pytest.mark.parametrize("kind", SPACES)
def test_every_observation_is_a_vector_of_floats(kind: str) -> None:
    space, shown, vector = SPACES[kind]
    environment = showing(space, shown)
    assert inspect_env(environment).observation_size == len(vector)
    copies = Copies(environment, 2)
    first = copies.reset([1, 2])
    after = copies.step(np.array([0, 1])).after
    copies.close()
    for observations in (first, after):
        assert observations.dtype == np.float32
        assert observations.tolist() == [vector, vector]


def test_actions_are_numbered_from_zero() -> None:
    environment = showing(*SPACES["box"][:2], actions=Discrete(3, start=5))
    assert inspect_env(environment).actions == 3
    copies = Copies(environment, 3)
    copies.reset([1, 2, 3])
    copies.step(np.array([0, 1, 2]))
    copies.close()
    assert Showing.done == [5, 6, 7]


def test_arguments_and_wrappers_are_those_of_the_study() -> None:
    name = f"{__name__}:Doubling"
    wrappers = [Wrapping(name=name), Wrapping(name=name, args={"factor": 5})]
    args = {"space": SPACES["box"][0], "shown": SPACES["box"][1]}
    copies = Copies(Environment(id="Showing-v0", args=args, wrappers=wrappers), 2)
    copies.reset([1, 2])
    assert copies.step(np.array([0, 1])).rewards.tolist() == [10.0, 10.0]
    copies.close()


def test_gymnasiums_own_wrappers_do() -> None:
    wrapper = Wrapping(name="gymnasium.wrappers:TimeAwareObservation", args={"flatten": True})
    plain, timed = (
        inspect_env(Environment(id="Acrobot-v1", wrappers=wrappers)) for wrappers in ([], [wrapper])
    )
    assert timed.observation_size == plain.observation_size + 1


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "ShowingForever-v0"])
def test_the_time_limit_is_the_studys(env_id: str) -> None:
    args = {} if "Show" not in env_id else {"space": Box(-1, 1, (1,)), "shown": np.zeros(1)}
    environment = Environment(id=env_id, args=args, max_episode_steps=3)
    assert inspect_env(environment).max_episode_steps == 3
    copies = Copies(environment, 2)
    copies.reset([1, 2])
    ends = [copies.step(np.array([0, 1])) for _ in range(6)]
    copies.close()
    assert [step.truncated.tolist() for step in ends] == [[False] * 2, [False] * 2, [True] * 2] * 2


def test_cartpole_with_arguments_is_gymnasiums_with_them() -> None:
    environment = Environment(id="CartPole-v1", args={"sutton_barto_reward": True})
    copies = Copies(environment, 1)
    copies.reset([1])
    assert copies.step(np.array([0])).rewards.tolist() == [0.0]
    copies.close()


def test_one_that_is_shown_is_the_same_one() -> None:
    environment = Environment(id="FrozenLake-v1", args={"is_slippery": False}, max_episode_steps=2)
    env = make_one(environment, render_mode="rgb_array")
    observation, _ = env.reset(seed=1)
    assert observation.tolist() == [1.0] + [0.0] * 15
    env.close()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (Environment(id="CartPole-v1", args={"no": 1}), 'task.env: "CartPole-v1" cannot be made'),
        (
            Environment(id="CartPole-v1", wrappers=[Wrapping(name="no_such_module:W")]),
            "task.wrappers: 'no_such_module:W'; its module cannot be imported here",
        ),
        (
            Environment(id="CartPole-v1", wrappers=[Wrapping(name="json:JSONDecoder")]),
            "task.wrappers: 'json:JSONDecoder'; must be a subclass of gymnasium",
        ),
        (
            Environment(
                id="CartPole-v1",
                wrappers=[Wrapping(name=f"{__name__}:Doubling", args={"no": 1})],
            ),
            "cannot be made: TypeError: ",
        ),
    ],
)
def test_what_cannot_be_made_is_told(environment: Environment, says: str) -> None:
    with pytest.raises(StudyFileError) as refused:
        inspect_env(environment)
    assert says in str(refused.value)


def test_it_is_what_the_studys_task_says() -> None:
    task = {
        "env": "CartPole-v1",
        "env_args": {"a": 1},
        "max_episode_steps": 3,
        "wrappers": [{"name": "m:C", "x": 2}],
    }
    assert Environment.of_task(task) == Environment(
        id="CartPole-v1",
        args={"a": 1},
        max_episode_steps=3,
        wrappers=(Wrapping(name="m:C", args={"x": 2}),),
    )
    assert Environment.of_task({"env": "CartPole-v1"}) == Environment(id="CartPole-v1")
