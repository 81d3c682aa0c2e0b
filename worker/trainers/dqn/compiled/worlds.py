"""Which environments are compiled, and where their episodes start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv

from worker.trainers import envs
from worker.trainers.dqn.compiled.environments import ACROBOT, CARTPOLE, F32, F64, MOUNTAIN_CAR
from worker.trainers.environment import EnvLike

# States of as many episodes' starts, and what is seen of them, as a generator draws them.
Starts = Callable[[np.random.Generator, int], tuple[F64, F32]]


@dataclass(frozen=True, kw_only=True)
class World:
    """One environment that is compiled."""

    number: int  # in `environments`
    actions: int
    starts: Starts


def _cartpole(rng: np.random.Generator, count: int) -> tuple[F64, F32]:
    states = rng.uniform(-0.05, 0.05, (count, 4))
    return states, states.astype(np.float32)


def _acrobot(rng: np.random.Generator, count: int) -> tuple[F64, F32]:
    # Rounded, and seen by the cosine of a rounded number: so Gymnasium has it, at a start alone.
    rounded = rng.uniform(-0.1, 0.1, (count, 4)).astype(np.float32)
    one, two, *speeds = rounded.T
    seen = np.stack([np.cos(one), np.sin(one), np.cos(two), np.sin(two), *speeds], axis=1)
    states = np.concatenate([rounded.astype(np.float64), np.full((count, 1), 2.0)], axis=1)
    return states, np.ascontiguousarray(seen)


def _mountain_car(rng: np.random.Generator, count: int) -> tuple[F64, F32]:
    states = np.stack([rng.uniform(-0.6, -0.4, count), np.zeros(count)], axis=1)
    return states, states.astype(np.float32)


_WORLDS = {
    CartPoleEnv: World(number=CARTPOLE, actions=2, starts=_cartpole),
    AcrobotEnv: World(number=ACROBOT, actions=3, starts=_acrobot),
    MountainCarEnv: World(number=MOUNTAIN_CAR, actions=3, starts=_mountain_car),
}


def world_of(env: EnvLike) -> World | None:
    """The compiled environment that is this one, if any is."""
    entry_point = envs.unchanged(env)
    if entry_point is None:
        return None
    made = gymnasium.envs.registration.load_env_creator(entry_point)
    return _WORLDS.get(made) if isinstance(made, type) else None
