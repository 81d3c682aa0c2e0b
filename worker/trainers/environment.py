"""An environment as a study asks for it: an id, and what is put around what Gymnasium makes of it.

Whatever it observes, what comes out is a flat vector of floats, and actions are numbered from 0.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, flatten, flatten_space
from numpy.typing import NDArray

from trialfleet.checking.imports import load, told
from trialfleet.checking.mistakes import FieldError
from trialfleet.errors import StudyFileError

Env: TypeAlias = gymnasium.Env[Any, Any]
# What networks and replay memories, whose numbers are float32, can hold.
FLOAT32_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Wrapping:
    """A wrapper around it."""

    name: str  # "module:Class"
    args: Mapping[str, Any] = field(default_factory=dict)  # of the class, besides the environment


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What to make, with as much as the same environment needs anywhere."""

    id: str  # of a Gymnasium environment
    args: Mapping[str, Any] = field(default_factory=dict)  # of its constructor
    max_episode_steps: int | None = None  # the time limit; None: its own
    wrappers: Sequence[Wrapping] = ()  # the innermost first

    def __str__(self) -> str:
        return self.id

    @classmethod
    def of_task(cls, task: Mapping[str, Any]) -> Environment:
        """That of a study file's [task]; fields that are not there have their defaults."""
        return cls(
            id=task["env"],
            args=task.get("env_args") or {},
            max_episode_steps=task.get("max_episode_steps"),
            wrappers=tuple(
                Wrapping(
                    name=wrapper["name"],
                    args={name: value for name, value in wrapper.items() if name != "name"},
                )
                for wrapper in task.get("wrappers") or ()
            ),
        )


EnvLike: TypeAlias = str | Environment  # an id alone, where nothing is around it


def as_environment(env: EnvLike) -> Environment:
    """The environment of that id, if it is an id."""
    return Environment(id=env) if isinstance(env, str) else env


def reward_threshold(environment: Environment) -> float | None:
    """The mean return at which it counts as solved, by whoever registered it; None if nobody says.

    Nor is there one for an environment that is not as it was registered: with other arguments,
    another time limit, or wrappers, its returns are not those that were meant.
    """
    if environment.args or environment.wrappers or environment.max_episode_steps is not None:
        return None
    try:
        found = gymnasium.spec(environment.id.rpartition(":")[2]).reward_threshold
    except gymnasium.error.Error:
        return None
    return None if found is None else float(found)


def make_one(environment: Environment, **options: Any) -> Env:
    """One copy of it. Whatever others' constructors raise comes through.

    Args:
        environment: Whose id is registered.
        options: For `gymnasium.make`.

    Raises:
        StudyFileError: A wrapper cannot be found or made, or the observations are no vector.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env: Env = gymnasium.make(
            environment.id,
            max_episode_steps=environment.max_episode_steps,
            disable_env_checker=True,
            **environment.args,
            **options,
        )
        try:
            for wrapping in environment.wrappers:
                env = _wrapped(env, wrapping)
            return _numbered(_flat(env, environment.id))
        except BaseException:
            env.close()
            raise


def _wrapped(env: Env, wrapping: Wrapping) -> Env:
    try:
        kind = load(wrapping.name, gymnasium.Wrapper)
    except FieldError as problem:
        raise StudyFileError(f"task.wrappers: {problem.text}") from problem
    try:
        wrapped: Env = kind(env, **wrapping.args)
        return wrapped
    except (Exception, SystemExit) as exc:
        raise StudyFileError(f"task.wrappers: {wrapping.name} cannot be made: {told(exc)}") from exc


class Flat(gymnasium.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """Observations as one vector: arrays row by row, choices as one of n bits, sorted keys.

    https://gymnasium.farama.org/api/spaces/utils/#gymnasium.spaces.utils.flatten
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self._space = env.observation_space
        flat = flatten_space(self._space)
        assert isinstance(flat, Box), "its space can be flattened"
        self.observation_space = Box(
            flat.low.astype(np.float32), flat.high.astype(np.float32), dtype=np.float32
        )

    def observation(self, observation: Any) -> NDArray[np.float32]:
        """The vector [O]."""
        return np.asarray(flatten(self._space, observation), np.float32)


class FromZero(gymnasium.ActionWrapper[Any, np.int64, Any]):
    """Actions numbered from 0 for an environment that numbers them from elsewhere."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        space = env.action_space
        assert isinstance(space, Discrete)
        self._start = int(space.start)
        self.action_space = Discrete(int(space.n))

    def action(self, action: np.int64) -> np.int64:
        """The environment's own number of it."""
        return np.int64(int(action) + self._start)


def _flat(env: Env, env_id: str) -> Env:
    space = env.observation_space
    if isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        return env
    if not getattr(space, "is_np_flattenable", False):
        raise StudyFileError(
            f"task.env: {json.dumps(env_id[:100])} has {type(space).__name__} observations, which"
            " are no vector of one length; put a wrapper around it that makes one (task.wrappers)"
        )
    return Flat(env)


def _numbered(env: Env) -> Env:
    space = env.action_space
    return FromZero(env) if isinstance(space, Discrete) and space.start != 0 else env
