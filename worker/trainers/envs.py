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
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv
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


def make_vector_env(env_id: str, num_envs: int) -> VectorEnv[Any, Any, Any]:
    """Make `num_envs` copies that are stepped together and reset on the step after an end.

    That next step ignores its action and returns the new episode's first observation with reward 0
    (https://farama.org/Vector-Autoreset-Mode); it is no transition of the environment. Use `reset`
    rather than the environment's own, which would tie the copies' randomness together.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if _find_spec(env_id).vector_entry_point == _CARTPOLE:
            return gymnasium.make_vec(env_id, num_envs, vectorization_mode="vector_entry_point")
        return gymnasium.make_vec(
            env_id, num_envs, vectorization_mode="sync", disable_env_checker=True
        )


def reset(env: VectorEnv[Any, Any, Any], seeds: Sequence[int]) -> NDArray[Any]:
    """Start every copy anew, copy i from `seeds[i]` alone; return the observations [N, O]."""
    core = env.unwrapped
    if isinstance(core, CartPoleVectorEnv):
        core.np_random = _PerEnvRandom(core, seeds)
        observations, _ = env.reset()
    else:
        # SyncVectorEnv takes a seed per copy, which its base class's signature does not say.
        observations, _ = env.reset(seed=list(seeds))  # type: ignore[arg-type]
    return np.asarray(observations)


class _PerEnvRandom(np.random.Generator):
    """Stands in for the generator that Gymnasium's NumPy CartPole shares between its copies.

    That environment draws one block for all copies that start over in a step, so a copy's next
    start would depend on when the others fell. Here column i comes from copy i's own generator.
    """

    def __init__(self, env: CartPoleVectorEnv, seeds: Sequence[int]) -> None:
        super().__init__(np.random.PCG64(0))  # only to be a Generator; nothing draws from it
        self._env = env
        self._generators = [np.random.default_rng(seed) for seed in seeds]

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Draw `size = (state, n)` for the n copies that ended the step before, or for all."""
        rows, columns = size
        block = np.empty((rows, columns))
        if columns == 0:
            return block
        # A full block is a reset() or all copies starting over: the same columns either way.
        full = columns == len(self._generators)
        starting = range(columns) if full else np.flatnonzero(self._env.prev_done).tolist()
        for column, copy in enumerate(starting):
            block[:, column] = self._generators[copy].uniform(low, high, rows)
        return block


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
