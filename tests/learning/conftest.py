"""What every test of learning shares: one thread, and the mistakes that a learner may make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from worker.trainers.dqn import randomness
from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.replay import Batches, ReplayMemory
from worker.trainers.envs import Copies, Step
from worker.trainers.threads import use_one_thread


@pytest.fixture(autouse=True)
def one_thread() -> None:
    use_one_thread()


@pytest.fixture
def mistake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the learner wrong in the way that the test's parameter names."""
    sample, step = ReplayMemory.sample, Copies.step

    def sample_without_ends(memory: ReplayMemory, rows: torch.Tensor) -> Batches:
        batches = sample(memory, rows)
        return batches._replace(terminal_t=torch.zeros_like(batches.terminal_t))

    def step_to_an_end(env: Copies, actions: NDArray[Any]) -> Step:
        led_to = step(env, actions)
        return led_to._replace(terminated=led_to.ended)

    match request.param:
        case "no mistake":
            pass
        case "epsilon frozen at 1":
            monkeypatch.setattr(randomness, "epsilon", lambda _, steps, __: np.ones(len(steps)))
        case "terminal mask dropped":
            monkeypatch.setattr(ReplayMemory, "sample", sample_without_ends)
        case "target never updated":
            monkeypatch.setattr(Agent, "update_target", lambda _: None)
        case "truncation taken for termination":
            monkeypatch.setattr(Copies, "step", step_to_an_end)
        case other:
            raise AssertionError(other)
    return str(request.param)
