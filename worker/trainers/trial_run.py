"""An environment tried once, as a training would use it."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np

from trialfleet.checking.imports import told
from trialfleet.errors import StudyFileError
from worker.trainers.environment import Environment
from worker.trainers.envs import Copies, inspect_env

_STEPS = 20
_SEED = 7


def step_once(environment: Environment) -> dict[str, Any]:
    """The environment's shape, and what is odd about it, after a start and a few steps.

    Raises:
        StudyFileError: It does not work.
    """
    shape = inspect_env(environment)
    try:
        first, second = (_play(environment, shape.actions) for _ in range(2))
    except StudyFileError:
        raise
    except (Exception, SystemExit) as exc:
        raise StudyFileError(f"{_named(environment)} cannot be stepped: {told(exc)}") from exc
    size = first.shape[-1]
    if size != shape.observation_size:
        raise StudyFileError(
            f"{_named(environment)} shows {size} numbers where its space says"
            f" {shape.observation_size}"
        )
    if not np.isfinite(first).all():
        raise StudyFileError(f"{_named(environment)} shows numbers that are not finite")
    odd = []
    if not np.array_equal(first, second):
        odd.append(
            "the same seed and actions did not show the same twice, so no result of this study can"
            " be repeated, nor gone on with to the bit; draw from self.np_random alone"
        )
    return {**asdict(shape), "warnings": odd}


def _play(environment: Environment, actions: int) -> np.ndarray[Any, Any]:
    """What two copies show [T, 2, O]."""
    with closing(Copies(environment, 2)) as copies:
        start = copies.reset([_SEED, _SEED + 1])
        steps = (copies.step(np.full(2, step % actions)).now for step in range(_STEPS))
        return np.stack([start, *steps])


def _named(environment: Environment) -> str:
    return f"task.env: {json.dumps(environment.id[:100], ensure_ascii=False)}"
