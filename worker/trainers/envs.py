"""Gymnasium at arm's length: what an environment looks like, and copies of it stepped in one call.

Every copy owns its randomness. What happens in one agent's environment never changes what another
agent's environment draws, so an agent's curve is a function of its own seed.
"""

from __future__ import annotations

import difflib
import importlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from trialfleet.errors import StudyFileError

_CARTPOLE = f"{CartPoleVectorEnv.__module__}:{CartPoleVectorEnv.__qualname__}"


@dataclass(frozen=True, kw_only=True)
class EnvShape:
    """What a network and a report need to know of an environment."""

    observation_size: int  # length of the flat observation vector
    actions: int  # number of discrete actions, numbered from 0
    max_episode_steps: int  # the time limit, in environment steps
    reward_threshold: float | None  # the return that counts as solved, where Gymnasium states one


def inspect_env(env_id: str) -> EnvShape:
    """Return the shape of the environment, made once and closed.

    Raises:
        StudyFileError: no such environment, or it cannot be made here, or DQN cannot act in it.
    """
    spec = _find_spec(env_id)
    if spec.max_episode_steps is None:
        raise StudyFileError(f"{_named(env_id)} has no time limit; an episode of it may never end")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gymnasium.make(env_id, disable_env_checker=True)
            env.close()
    except (Exception, SystemExit) as exc:  # third-party constructors raise what they like
        raise StudyFileError(f"{_named(env_id)} cannot be made: {_one_line(exc)}") from exc
    return EnvShape(
        observation_size=_observation_size(env_id, env.observation_space),
        actions=_action_count(env_id, env.action_space),
        max_episode_steps=spec.max_episode_steps,
        reward_threshold=spec.reward_threshold,
    )


class Step(NamedTuple):
    """What one step of N copies led to."""

    after: NDArray[Any]  # [N, O] observations that the actions led to, also where they ended it
    rewards: NDArray[Any]  # [N]
    terminated: NDArray[np.bool_]  # [N]
    truncated: NDArray[np.bool_]  # [N]
    ended: NDArray[np.bool_]  # [N] either of the two
    now: NDArray[Any]  # [N, O] where to act next: `after`, or the start of a new episode


class Copies:
    """Copies of an environment that are stepped together; an episode's end costs no step.

    A copy whose episode has ended stands at the start of its next one already. What happens in one
    copy changes nothing in another one.

    Args:
        env_id: Of a Gymnasium environment.
        count: N, how many.
    """

    def __init__(self, env_id: str, count: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._env: VectorEnv[Any, Any, Any]
            if _find_spec(env_id).vector_entry_point == _CARTPOLE:
                self._env = gymnasium.make_vec(
                    env_id, count, vectorization_mode="vector_entry_point"
                )
            else:
                self._env = gymnasium.make_vec(
                    env_id,
                    count,
                    vectorization_mode="sync",
                    vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
                    disable_env_checker=True,
                )
        core = self._env.unwrapped
        # Gymnasium's own NumPy CartPole would draw all starts from one generator, in the order in
        # which episodes end, and a step later. So it is started over from here.
        self._cartpole = core if isinstance(core, CartPoleVectorEnv) else None
        self._generators: list[np.random.Generator] = []

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        """Start every copy anew, copy i from `seeds[i]` alone; return the observations [N, O]."""
        if self._cartpole is None:
            # SyncVectorEnv takes a seed per copy, which its base class's signature does not say.
            observations, _ = self._env.reset(seed=list(seeds))  # type: ignore[arg-type]
            return np.asarray(observations)
        self._env.reset(seed=0)  # only to be stepped from; nothing of it is kept
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        return self._start_cartpole(self._cartpole, np.ones(len(seeds), np.bool_))

    def step(self, actions: NDArray[np.integer]) -> Step:
        """Do one action [N] in each copy."""
        after, rewards, terminated, truncated, infos = self._env.step(actions)
        ended = terminated | truncated
        now = after
        if ended.any():
            if self._cartpole is not None:
                now = self._start_cartpole(self._cartpole, ended)
            else:
                after = after.copy()
                after[ended] = np.stack(infos["final_obs"][ended])
        return Step(after, rewards, terminated, truncated, ended, now)

    def close(self) -> None:
        """Close the copies. May be called again."""
        self._env.close()

    def _start_cartpole(
        self, core: CartPoleVectorEnv, which: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Put those of `which` [N] at a start of their own; return all observations [N, 4]."""
        assert core.state is not None
        for copy in np.flatnonzero(which):
            core.state[:, copy] = self._generators[copy].uniform(core.low, core.high, 4)
        core.steps[which] = 0
        core.prev_done[which] = False
        observations: NDArray[np.float32] = core.state.T.astype(np.float32)
        return observations


def _find_spec(env_id: str) -> EnvSpec:
    module, colon, name = env_id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as exc:  # importing runs code that nobody here has read
            raise StudyFileError(
                f"{_named(env_id)} names a module that cannot be imported: {_one_line(exc)}"
            ) from exc
    spec = gymnasium.registry.get(name)
    if spec is None:
        near = difflib.get_close_matches(name, gymnasium.registry, n=1)
        hint = f'; the nearest registered id is "{near[0]}"' if near else ""
        raise StudyFileError(f"{_named(env_id)} is not a registered environment{hint}")
    return spec


def _observation_size(env_id: str, space: gymnasium.Space[Any]) -> int:
    wanted = "DQN here needs a flat Box of floats"
    if not isinstance(space, gymnasium.spaces.Box):
        found = type(space).__name__
        raise StudyFileError(f"{_named(env_id)} has {found} observations; {wanted}")
    empty = 0 in space.shape  # a network needs an input
    if len(space.shape) != 1 or empty or not np.issubdtype(space.dtype, np.floating):
        found = f"Box observations of shape {space.shape} and type {space.dtype}"
        raise StudyFileError(f"{_named(env_id)} has {found}; {wanted}")
    return int(space.shape[0])


def _action_count(env_id: str, space: gymnasium.Space[Any]) -> int:
    if not isinstance(space, gymnasium.spaces.Discrete):
        found = type(space).__name__
        raise StudyFileError(
            f"{_named(env_id)} has a {found} action space; DQN needs Discrete actions"
        )
    if space.start != 0:
        raise StudyFileError(
            f"{_named(env_id)} numbers its actions from {space.start}; DQN needs them from 0"
        )
    return int(space.n)


def _named(env_id: str) -> str:
    """Quote an id that may be anything at all, on one line and not too long."""
    return f"task.env: {json.dumps(env_id[:100], ensure_ascii=False)}"


def _one_line(exc: BaseException) -> str:
    text = " ".join(str(exc).split())
    return (
        f"it calls sys.exit({text})" if isinstance(exc, SystemExit) else text or type(exc).__name__
    )
