"""An environment tried once, as a training would use it."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np

from trialfleet.checking.imports import told
from trialfleet.errors import StudyFileError
from trialfleet.escape import printable
from worker.trainers.environment import FLOAT32_MOST, Environment, make_one
from worker.trainers.envs import Copies, inspect_env

_STEPS = 20
_NUMBERS = "biuf"  # kinds of NumPy's types
_SEED = 7


def step_once(environment: Environment) -> dict[str, Any]:
    """The environment's shape, and what is odd about it, after a start and a few steps.

    Raises:
        StudyFileError: It does not work.
    """
    shape = inspect_env(environment)
    try:
        _look(environment, shape.actions)
        first, second = (_play(environment, shape.actions) for _ in range(2))
    except StudyFileError:
        raise
    except (Exception, SystemExit) as exc:
        raise StudyFileError(f"{_named(environment)} cannot be stepped: {told(exc)}") from exc
    odd = []
    if not np.array_equal(first, second):
        odd.append(
            "the same seed and actions did not show the same twice, so no result of this study can"
            " be repeated, nor gone on with to the bit; draw from self.np_random alone"
        )
    return {**asdict(shape), "warnings": odd}


def _look(environment: Environment, actions: int) -> None:
    """Refuse what one copy shows and gives, if no agent could learn from it."""
    with closing(make_one(environment)) as env:
        begun = env.reset(seed=_SEED)
        _refuse_other(environment, "reset", begun, ("observation", "info"))
        _refuse_observation(environment, begun[0], env.observation_space.shape)
        ended = False
        for step in range(_STEPS):
            if ended:
                env.reset()
            found = env.step(np.int64(step % actions))
            parts = ("observation", "reward", "terminated", "truncated", "info")
            _refuse_other(environment, "step", found, parts)
            _refuse_observation(environment, found[0], env.observation_space.shape)
            _refuse_reward(environment, found[1])
            ended = bool(found[2] or found[3])


def _refuse_other(
    environment: Environment, method: str, found: object, parts: tuple[str, ...]
) -> None:
    """Refuse a method's result that is not made of these parts."""
    if not isinstance(found, tuple) or len(found) != len(parts):
        count = f"{len(found)} values" if isinstance(found, tuple) else type(found).__name__
        raise StudyFileError(
            f"{_named(environment)}: {method}() returns {count}; must return"
            f" ({', '.join(parts)}), as Gymnasium's environments do"
        )


def _refuse_observation(
    environment: Environment, seen: object, shape: tuple[int, ...] | None
) -> None:
    try:
        array = np.asarray(seen)
    except ValueError:  # lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in _NUMBERS:
        raise StudyFileError(
            f"{_named(environment)} shows {_brief(seen)}; must show numbers, as its space says"
        )
    if array.shape != shape:
        raise StudyFileError(
            f"{_named(environment)} shows an observation of shape {array.shape} where its space"
            f" says {shape}"
        )
    _refuse_unlike_float32(f"{_named(environment)} shows", "numbers", array)


def _refuse_reward(environment: Environment, reward: object) -> None:
    array = None if isinstance(reward, list | tuple) else np.asarray(reward)
    if array is None or array.ndim or array.dtype.kind not in _NUMBERS:
        raise StudyFileError(
            f"{_named(environment)} gives the reward {_brief(reward)}; must be a single number"
        )
    _refuse_unlike_float32(f"{_named(environment)} gives", "rewards", array)


def _refuse_unlike_float32(subject: str, what: str, array: np.ndarray[Any, Any]) -> None:
    """Refuse numbers that networks and replay memories, which are float32, cannot hold."""
    if not np.isfinite(array).all():
        raise StudyFileError(f"{subject} {what} that are not finite")
    if (beyond := np.abs(array) > FLOAT32_MOST).any():
        raise StudyFileError(
            f"{subject} {what} such as {array[beyond].flat[0]:g}, which 32-bit floats cannot hold;"
            f" must be at most {FLOAT32_MOST:.3g}"
        )


def _play(environment: Environment, actions: int) -> np.ndarray[Any, Any]:
    """What two copies show [T, 2, O]."""
    with closing(Copies(environment, 2)) as copies:
        start = copies.reset([_SEED, _SEED + 1])
        steps = (copies.step(np.full(2, step % actions)).now for step in range(_STEPS))
        return np.stack([start, *steps])


def _brief(value: object) -> str:
    """A value of others' code, in a few characters."""
    return printable(" ".join(repr(value).split())[:60])


def _named(environment: Environment) -> str:
    return f"task.env: {json.dumps(environment.id[:100], ensure_ascii=False)}"
