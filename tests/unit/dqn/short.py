"""A training of three short segments, and what comes out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

from tests.unit.dqn.settings import PARAMS
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import WALL_CLOCK, Evaluation, Event, Job, Score


def training(
    seeds: Sequence[int] = (1, 2),
    params: Params = PARAMS,
    env_id: str = "CartPole-v1",
    keep: Literal["best", "last"] = "last",
    *,
    compiled: bool = False,
    tensors: bool = False,
    lanes: int = 1,
    device: str = "cpu",
) -> Training:
    """Three segments of 300 steps; `tensors`: as on a GPU."""
    return Training(
        Job(
            env=env_id,
            knobs=asdict(params),
            seeds=seeds,
            train_steps=900,
            eval_every=300,
            eval_episodes=2,
            score_episodes=3,
            keep=keep,
            compiled=compiled,
            lanes=lanes,
            device=device,
        ),
        tensors=tensors or None,
    )


def evaluations(running: Training) -> list[Evaluation]:
    return [event for event in running.run() if isinstance(event, Evaluation)]


def ends(running: Training) -> list[Evaluation | Score]:
    return [event for event in running.run() if isinstance(event, Evaluation | Score)]


def numbers(event: Event) -> dict[str, bytes]:
    """Everything that an event says and that is the same each time, to the bit."""
    if isinstance(event, Score):
        return {"score": event.returns.tobytes()}
    assert isinstance(event, Evaluation)
    return {name: x.tobytes() for name, x in event.metrics.items() if name not in WALL_CLOCK}


def fingerprint(running: Training) -> str:
    """A digest of everything that comes out of a training."""
    digest = hashlib.sha256()
    for end in ends(running):
        for name, data in numbers(end).items():
            digest.update(name.encode() + data)
    for name, array in sorted(running.state().items()):
        digest.update(name.encode() + array.tobytes())
    for array in running.result().values():
        digest.update(array.tobytes())
    return digest.hexdigest()
