"""Gymnasium at arm's length: what an environment looks like, and copies of it stepped in one call.

Every copy owns its randomness. What happens in one agent's environment never changes what another
agent's environment draws, so an agent's curve is a function of its own seed.
"""

from __future__ import annotations

import difflib
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from trialfleet.checking.imports import import_named, told
from trialfleet.checking.mistakes import FieldError
from trialfleet.errors import StudyFileError
from worker.trainers.environment import EnvLike, as_environment, make_one

_CARTPOLE = f"{CartPoleVectorEnv.__module__}:{CartPoleVectorEnv.__qualname__}"


@dataclass(frozen=True, kw_only=True)
class EnvShape:
    """What a network and a report need to know of an environment."""

    observation_size: int  # length of the flat observation vector
    actions: int  # number of discrete actions, numbered from 0
    max_episode_steps: int  # the time limit, in environment steps
    reward_threshold: float | None  # the return that counts as solved, where Gymnasium states one


def inspect_env(env: EnvLike) -> EnvShape:
    """Return the shape of the environment, made once and closed.

    Raises:
        StudyFileError: no such environment, or it cannot be made here, or DQN cannot act in it.
    """
    environment = as_environment(env)
    env_id, spec = environment.id, _find_spec(environment.id)
    limit = environment.max_episode_steps or spec.max_episode_steps
    if limit is None:
        raise StudyFileError(
            f"{_named(env_id)} has no time limit, so that an episode of it may never end; give it"
            " one with task.max_episode_steps"
        )
    try:
        made = make_one(environment)
        made.close()
    except StudyFileError:
        raise
    except (Exception, SystemExit) as exc:  # third-party constructors raise what they like
        raise StudyFileError(f"{_named(env_id)} cannot be made: {told(exc)}") from exc
    return EnvShape(
        observation_size=_observation_size(env_id, made.observation_space),
        actions=_action_count(env_id, made.action_space),
        max_episode_steps=limit,
        reward_threshold=spec.reward_threshold,
    )


def unchanged(env: EnvLike) -> Any:
    """Where the environment's class is, if nothing is put around it but a time limit; else None.

    Raises:
        StudyFileError: no such environment.
    """
    environment = as_environment(env)
    spec = _find_spec(environment.id)
    changed = environment.args or environment.wrappers or spec.kwargs or spec.additional_wrappers
    return None if changed else spec.entry_point


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
        env: Which one.
        count: N, how many.
    """

    def __init__(self, env: EnvLike, count: int) -> None:
        environment = as_environment(env)
        limit = environment.max_episode_steps
        more: dict[str, Any] = {} if limit is None else {"max_episode_steps": limit}
        plain = unchanged(environment) is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._env: VectorEnv[Any, Any, Any]
            if plain and _find_spec(environment.id).vector_entry_point == _CARTPOLE:
                self._env = gymnasium.make_vec(
                    environment.id,
                    count,
                    vectorization_mode="vector_entry_point",
                    **more,
                )
            else:
                self._env = SyncVectorEnv(
                    [partial(make_one, environment)] * count,
                    autoreset_mode=AutoresetMode.SAME_STEP,
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
    _, colon, name = env_id.rpartition(":")
    if colon:
        try:
            import_named(env_id)
        except FieldError as problem:
            raise StudyFileError(f"task.env: {problem.text}") from problem
    spec = gymnasium.registry.get(name)
    if spec is None:
        module = import_named(env_id) if colon else None
        raise StudyFileError(f"{_named(env_id)} {_unregistered(env_id, module)}")
    return spec


def _unregistered(env_id: str, module: ModuleType | None) -> str:
    """Why there is no environment of this id, and which one may be meant."""
    prefix, colon, name = env_id.rpartition(":")
    found = getattr(module, name, None)
    if isinstance(found, type):
        ids = [
            each.id
            for each in gymnasium.registry.values()
            if each.entry_point in (found, f"{found.__module__}:{found.__qualname__}")
        ]
        told = _ids(ids, prefix + colon) or (
            f'the id under which the module registers it, as by gymnasium.register("{name}-v0",'
            f" entry_point={name}, max_episode_steps=…)"
        )
        return f"is a class; must be {told}"
    bare = re.sub(r"-v\d+$", "", name)
    ids = [each.id for each in gymnasium.registry.values() if _bare(each) == bare]
    if ids:
        problem = "has no version" if bare == name else "is not a registered version"
        return f"{problem}; must be {_ids(ids, prefix + colon)}"
    near = difflib.get_close_matches(name, gymnasium.registry, n=1)
    if near:
        return f"is not a registered environment; the nearest registered id is {_ids(near, '')}"
    own = "" if colon else '; one of your own is named "module:Id"'
    return f"is not a registered environment{own}"


def _bare(spec: EnvSpec) -> str:
    """Its id without the version."""
    return spec.id if spec.version is None else spec.id.removesuffix(f"-v{spec.version}")


def _ids(ids: Sequence[str], prefix: str) -> str:
    """Ids as a study file names them; the newest version is the last."""
    return " or ".join(json.dumps(f"{prefix}{each}") for each in ids)


def _observation_size(env_id: str, space: gymnasium.Space[Any]) -> int:
    assert isinstance(space, gymnasium.spaces.Box), "they have been made flat"
    if space.shape == (0,):  # a network needs an input
        raise StudyFileError(f"{_named(env_id)} has observations of no number at all")
    return int(space.shape[0])


def _action_count(env_id: str, space: gymnasium.Space[Any]) -> int:
    if not isinstance(space, gymnasium.spaces.Discrete):
        found = type(space).__name__
        raise StudyFileError(
            f"{_named(env_id)} has a {found} action space; DQN needs Discrete actions"
        )
    return int(space.n)


def _named(env_id: str) -> str:
    """Quote an id that may be anything at all, on one line and not too long."""
    return f"task.env: {json.dumps(env_id[:100], ensure_ascii=False)}"
