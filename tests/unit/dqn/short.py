"""A training of three short segments, and what comes out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from tests.unit.dqn.settings import PARAMS
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.train import Evaluation, Training


def training(
    seeds: Sequence[int] = (1, 2),
    params: Params = PARAMS,
    env_id: str = "CartPole-v1",
    keep: Literal["best", "last"] = "last",
) -> Training:
    """Three segments of 300 steps."""
    return Training(
        env_id,
        params,
        seeds,
        train_steps=900,
        eval_every=300,
        eval_episodes=2,
        score_episodes=3,
        keep=keep,
    )


def evaluations(running: Training) -> list[Evaluation]:
    return [event for event in running.run() if isinstance(event, Evaluation)]


def fingerprint(running: Training) -> str:
    """A digest of everything that comes out of a training."""
    digest = hashlib.sha256()
    for end in evaluations(running):
        digest.update(end.returns.tobytes() + end.lengths.tobytes())
        digest.update(b"" if end.loss is None else end.loss.tobytes())
    for name, tensor in sorted(running.state().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    for array in running.networks().values():
        digest.update(array.tobytes())
    return digest.hexdigest()
