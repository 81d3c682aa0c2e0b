"""Environments that are steps of our own, too, and where their episodes start.

As machine code in `worker.trainers.dqn.compiled`, as tensors in `worker.trainers.dqn.gpu`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray

from worker.trainers import envs
from worker.trainers.environment import EnvLike

# States [E, N] of so many episodes' starts and what is seen of them [E, O], as a generator draws
# them.
Starts = Callable[[np.random.Generator, int], tuple[NDArray[np.float64], NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True)
class World:
    """One of Gymnasium's environments."""

    name: Literal["CartPole", "Acrobot", "MountainCar"]
    actions: int
    starts: Starts


def _cartpole(
    rng: np.random.Generator, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    states = rng.uniform(-0.05, 0.05, (count, 4))
    return states, states.astype(np.float32)


def _acrobot(
    rng: np.random.Generator, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    # Rounded, and seen by the cosine of a rounded number: so Gymnasium has it, at a start alone.
    states = rng.uniform(-0.1, 0.1, (count, 4)).astype(np.float32)
    one, two, *speeds = states.T
    seen = np.stack([np.cos(one), np.sin(one), np.cos(two), np.sin(two), *speeds], axis=1)
    return states.astype(np.float64), np.ascontiguousarray(seen)


def _mountain_car(
    rng: np.random.Generator, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    states = np.stack([rng.uniform(-0.6, -0.4, count), np.zeros(count)], axis=1)
    return states, states.astype(np.float32)


WORLDS = {
    CartPoleEnv: World(name="CartPole", actions=2, starts=_cartpole),
    AcrobotEnv: World(name="Acrobot", actions=3, starts=_acrobot),
    MountainCarEnv: World(name="MountainCar", actions=3, starts=_mountain_car),
}


def world_of(env: EnvLike) -> World | None:
    """The world that this environment is, with nothing changed but its time limit; or None."""
    entry_point = envs.unchanged(env)
    if entry_point is None:
        return None
    made = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    return WORLDS.get(made) if isinstance(made, type) else None
