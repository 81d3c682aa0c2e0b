"""What is refused as an environment, and that copies of one keep apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.spaces import Box, Discrete, Sequence
from gymnasium.vector import SyncVectorEnv

from trialfleet.errors import StudyFileError
from worker.trainers.envs import Copies, EnvShape, inspect_env


class Peculiar(gymnasium.Env[Any, Any]):
    """An environment of any spaces, or one that cannot be made."""

    def __init__(self, observations: Any = None, actions: Any = None, error: str = "") -> None:
        if error:
            raise ImportError(error)
        self.observation_space = observations or Box(-1.0, 1.0, (2,))
        self.action_space = actions or Discrete(2)


class Steps(gymnasium.Env[Any, Any]):
    """Pays 1 a step, and shows how many there have been."""

    observation_space = Box(0.0, 9.0, (1,))
    action_space = Discrete(2)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self._count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self._count += 1
        return np.full(1, self._count, np.float32), 1.0, False, False, {}


def _peculiar(**arguments: Any) -> Peculiar:
    return Peculiar(**arguments)


PECULIAR: dict[str, dict[str, Any]] = {
    "Float64-v0": {"observations": Box(-1.0, 1.0, (2,), np.float64)},
    "Picture-v0": {"observations": Box(0, 255, (8, 8, 3), np.uint8)},
    "Blind-v0": {"observations": Box(-1.0, 1.0, (0,), np.float32)},
    "Bytes-v0": {"observations": Box(0, 255, (8,), np.uint8)},
    "FromOne-v0": {"actions": Discrete(3, start=1)},
    "Words-v0": {"observations": Sequence(Discrete(3))},
    "NotInstalled-v0": {"error": "No module named\n'physics'"},
}


@pytest.fixture(autouse=True)
def peculiar_envs() -> Iterator[None]:
    before = dict(gymnasium.registry)
    for name, arguments in PECULIAR.items():
        gymnasium.register(name, _peculiar, max_episode_steps=9, kwargs=arguments)
    gymnasium.register("Endless-v0", _peculiar)
    gymnasium.register("Steps-v0", Steps, max_episode_steps=4)  # type: ignore[arg-type]
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


@pytest.mark.parametrize(
    ("env_id", "size", "actions", "limit", "threshold"),
    [
        ("CartPole-v0", 4, 2, 200, 195.0),
        ("CartPole-v1", 4, 2, 500, 475.0),
        ("Acrobot-v1", 6, 3, 500, -100.0),
        ("gymnasium.envs:Acrobot-v1", 6, 3, 500, -100.0),
        ("Float64-v0", 2, 2, 9, None),
        ("FrozenLake-v1", 16, 4, 100, 0.7),
        ("Picture-v0", 192, 2, 9, None),
        ("Bytes-v0", 8, 2, 9, None),
        ("FromOne-v0", 2, 3, 9, None),
    ],
)
def test_shape(env_id: str, size: int, actions: int, limit: int, threshold: float | None) -> None:
    assert inspect_env(env_id) == EnvShape(
        observation_size=size, actions=actions, max_episode_steps=limit, reward_threshold=threshold
    )


@pytest.mark.parametrize(
    ("env_id", "says"),
    [
        ("CartPol-v1", 'is not a registered environment; the nearest registered id is "CartPole-v'),
        ("cartpole", "is not a registered environment"),
        ("my", 'is not a registered environment; one of your own is named "module:Id"'),
        ("CartPole-v7", 'is not a registered version; must be "CartPole-v0" or "CartPole-v1"'),
        ("CartPole", 'has no version; must be "CartPole-v0" or "CartPole-v1"'),
        ("tests.unit.dqn.test_envs:Float64", 'must be "tests.unit.dqn.test_envs:Float64-v0"'),
        ("tests.unit.dqn.test_envs:Steps", 'is a class; must be "tests.unit.dqn.test_envs:Step'),
        ("tests.unit.dqn.test_envs:Peculiar", "is a class; must be the id under which the modul"),
        ("Pendulum-v1", "has a Box action space; DQN needs Discrete actions"),
        ("Blackjack-v1", "has no time limit"),
        ("Blind-v0", "has observations of no number at all"),
        ("Endless-v0", "give it one with task.max_episode_steps"),
        ("Words-v0", "has Sequence observations, which are no vector of one length; put a wrapp"),
        ("worker:CartPole-v1", "'worker' is a package of Trialfleet's own"),
        ("Endless-v0", "has no time limit"),
        ("NotInstalled-v0", "cannot be made: No module named 'physics'"),
        ("no_such_module:CartPole-v1", "cannot be imported here: No module named 'no_such_module'"),
        ("..up:CartPole-v1", "cannot be imported"),
        (":CartPole-v1", "cannot be imported"),
        ("a:b:c", "cannot be imported"),
        ("os:NoSuchEnv-v1", "is not a registered environment"),
        ("", "is not a registered environment"),
        ("../CartPole-v1", "is not a registered environment"),
        ('"; drop table trials; --', "is not a registered environment"),
        ("\0\n{}%s", "is not a registered environment"),
        ("é" * 5000, "is not a registered environment"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_is_refused(env_id: str, says: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        inspect_env(env_id)
    message = str(caught.value)
    assert message.startswith("task.env: ")
    assert says in message
    assert "\n" not in message


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inspect_env("CartPole-v0")  # out of date, as Gymnasium would say
        Copies("CartPole-v0", 2).close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("env_id", "kind"),
    [
        ("CartPole-v0", CartPoleVectorEnv),
        ("CartPole-v1", CartPoleVectorEnv),
        ("Acrobot-v1", SyncVectorEnv),
        ("MountainCar-v0", SyncVectorEnv),
    ],
)
def test_only_cartpole_is_stepped_as_one(env_id: str, kind: type) -> None:
    env = Copies(env_id, 3)
    assert isinstance(env._env.unwrapped, kind)
    assert env.reset([1, 2, 3]).shape[0] == 3
    env.close()


def starts(env_id: str, seeds: list[int], policy: list[int], count: int) -> list[list[Any]]:
    """Each copy's first `count` starts, when copy i always does action `policy[i]`."""
    env = Copies(env_id, len(seeds))
    found: list[list[Any]] = [[row.tolist()] for row in env.reset(seeds)]
    while min(len(starts) for starts in found) < count:
        led_to = env.step(np.array(policy))
        assert (led_to.rewards != 0).all(), "no step goes by without a transition"
        for i in np.flatnonzero(led_to.ended):
            found[i].append(led_to.now[i].tolist())
            assert (led_to.after[i] != led_to.now[i]).any()
        assert np.array_equal(led_to.after[~led_to.ended], led_to.now[~led_to.ended])
    env.close()
    return [starts[:count] for starts in found]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCar-v0"])
def test_where_a_copy_starts_over_depends_on_its_own_seed_only(env_id: str) -> None:
    """Catches Gymnasium's CartPole drawing all starts from one generator, in order of the ends."""
    both = starts(env_id, [5, 6], [0, 1], 6)
    assert starts(env_id, [5, 9], [0, 0], 6)[0] == both[0]  # other neighbour, other ends
    assert starts(env_id, [9, 6], [0, 1], 6)[1] == both[1]
    assert starts(env_id, [5], [0], 6)[0] == both[0]
    assert both[0] != both[1]
    assert len({str(start) for start in both[0]}) == 6


def test_the_vectorized_cartpole_starts_within_the_plain_ones_bounds() -> None:
    drawn = np.array(starts("CartPole-v1", list(range(50)), [0, 1] * 25, 5))
    assert abs(drawn).max() <= 0.05
    assert drawn.std() == pytest.approx(0.1 / 12**0.5, rel=0.1)
    plain, _ = CartPoleEnv().reset(seed=0)
    assert abs(plain).max() <= 0.05


def test_a_reset_starts_all_copies_anew() -> None:
    env = Copies("CartPole-v1", 3)
    first = env.reset([1, 2, 3])
    for _ in range(15):
        env.step(np.array([0, 1, 0]))
    assert np.array_equal(env.reset([1, 2, 3]), first)
    assert np.array_equal(env.reset([1, 4, 3])[[0, 2]], first[[0, 2]])


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Steps-v0"])
def test_an_end_is_followed_by_a_full_episode(env_id: str) -> None:
    """Catches a step that is lost to starting over, and a time limit that forgets to start over."""
    env = Copies(env_id, 2)
    env.reset([1, 2])
    lengths = np.zeros(2, np.int64)
    episodes: list[int] = []
    for t in range(60):
        led_to = env.step(np.array([0, t % 2]))
        lengths += 1
        episodes += lengths[led_to.ended].tolist()
        lengths[led_to.ended] = 0
    env.close()
    if env_id == "Steps-v0":
        assert episodes == [4] * 30
    else:
        assert min(episodes) >= 8
