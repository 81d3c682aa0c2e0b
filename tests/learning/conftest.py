"""What every test of learning shares: one thread, and the mistakes that a learner may make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.replay import Batches, ReplayMemory
from worker.trainers.threads import use_one_thread


@pytest.fixture(autouse=True)
def one_thread() -> None:
    use_one_thread()


@pytest.fixture
def mistake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the learner wrong in the way that the test's parameter names."""
    sample, add, step = ReplayMemory.sample, ReplayMemory.add, SyncVectorEnv.step

    def sample_without_ends(memory: ReplayMemory, rows: torch.Tensor) -> Batches:
        batches = sample(memory, rows)
        return batches._replace(terminal_t=torch.zeros_like(batches.terminal_t))

    def add_all(
        memory: ReplayMemory, s: Any, a: Any, r: Any, s_t: Any, end: Any, real: Any
    ) -> None:
        add(memory, s, a, r, s_t, end, np.ones_like(real))

    def step_to_an_end(env: SyncVectorEnv, actions: NDArray[Any]) -> Any:
        observations, rewards, terminated, truncated, infos = step(env, actions)
        return observations, rewards, terminated | truncated, truncated, infos

    match request.param:
        case "no mistake":
            pass
        case "epsilon frozen at 1":
            monkeypatch.setattr(Params, "epsilon", lambda *_: 1.0)
        case "terminal mask dropped":
            monkeypatch.setattr(ReplayMemory, "sample", sample_without_ends)
        case "target never updated":
            monkeypatch.setattr(Agent, "update_target", lambda _: None)
        case "autoreset steps stored":
            monkeypatch.setattr(ReplayMemory, "add", add_all)
        case "truncation taken for termination":
            monkeypatch.setattr(SyncVectorEnv, "step", step_to_an_end)
        case other:
            raise AssertionError(other)
    return str(request.param)
