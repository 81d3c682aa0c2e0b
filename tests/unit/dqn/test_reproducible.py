"""The same bits: from the same seeds, after an interruption, in another process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import evaluations, fingerprint, training
from worker.trainers.dqn.evaluate import evaluate
from worker.trainers.dqn.network import load_network
from worker.trainers.dqn.randomness import Purpose, stream
from worker.trainers.dqn.train import Evaluation, Training


def own_parts(running: Training, agent: int, ends: list[Evaluation]) -> dict[str, torch.Tensor]:
    """All that belongs to one agent."""
    state = running.state()
    size = int(state["replay.sizes"][agent])
    parts = {name: state[name][agent] for name in ("agent.online", "agent.target")}
    parts |= {name: state[name][agent] for name in ("agent.adam.exp_avg", "agent.adam.exp_avg_sq")}
    parts |= {"size": state["replay.sizes"][agent], "position": state["replay.positions"][agent]}
    parts["memory"] = state["replay.rows"][agent, :size]
    for end in ends:
        assert end.loss is not None
        parts[f"returns {end.segment}"] = torch.from_numpy(end.returns[agent])
        parts[f"loss {end.segment}"] = torch.tensor(end.loss[agent])
    return parts


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1"])
def test_an_agent_is_a_function_of_its_own_seed(env_id: str) -> None:
    """Catches any randomness, update or environment that agents share."""
    first, second = training([1, 2, 3], env_id=env_id), training([1, 9, 3], env_id=env_id)
    ends, other_ends = evaluations(first), evaluations(second)
    for agent, same in [(0, True), (1, False), (2, True)]:
        parts = own_parts(first, agent, ends)
        other_parts = own_parts(second, agent, other_ends)
        equal = {name: torch.equal(part, other_parts[name]) for name, part in parts.items()}
        if same:
            assert all(equal.values()), equal
        else:
            assert not equal["agent.online"]
            assert not equal["memory"]


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("boundary", [0, 1, 2])
def test_a_resumed_training_is_the_uninterrupted_one(
    boundary: int, keep: Literal["best", "last"]
) -> None:
    """To the bit, from any segment's end, with wrapped memories and rounds that straddle."""
    params = replace(PARAMS, buffer_size=250, train_freq=7)
    straight = training(params=params, keep=keep)
    saved: dict[str, torch.Tensor] = straight.state()
    found = []
    for event in straight.run():
        if isinstance(event, Evaluation):
            found.append(event)
            if event.segment == boundary:
                saved = {name: tensor.clone() for name, tensor in straight.state().items()}
    resumed = training(params=params, keep=keep)
    list(resumed.run())  # whatever it was before, it becomes what it is given
    resumed.load_state(saved)
    assert resumed.segment == boundary
    ends = evaluations(resumed)
    assert [end.segment for end in ends] == [1, 2, 3][boundary:]
    for end, wanted in zip(ends, found[boundary:], strict=True):
        assert np.array_equal(end.returns, wanted.returns)
        assert end.loss is not None
        assert wanted.loss is not None
        assert np.array_equal(end.loss, wanted.loss)
    for name, tensor in straight.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name


def test_a_state_holds_plain_tensors_for_the_asking() -> None:
    running = training()
    evaluations(running)
    for name, tensor in running.state().items():
        assert isinstance(tensor, torch.Tensor), name
        assert tensor.is_contiguous(), name
        assert not tensor.requires_grad, name


def test_a_state_of_other_agents_is_refused() -> None:
    with pytest.raises(ValueError, match="agents and parameters"):
        training([1, 2]).load_state(training([1]).state())


def test_two_processes_give_the_same_bits() -> None:
    program = (
        "from worker.threads import use_one_thread; use_one_thread()\n"
        "from tests.unit.dqn.short import fingerprint, training\n"
        "print(fingerprint(training()))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.strip() == fingerprint(training())


def test_stopping_to_look_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fingerprint(training())
    monkeypatch.setattr("worker.trainers.dqn.train._STEPS_PER_PROGRESS", 1)
    assert fingerprint(training()) == plain


def test_a_saved_agent_plays_as_it_did_in_the_stack() -> None:
    running = training([1, 2])
    last = evaluations(running)[-1]
    for agent, seed in enumerate((1, 2)):
        alone = load_network({name: array[agent] for name, array in running.networks().items()})
        played = evaluate(alone, "CartPole-v1", [stream(seed, 2, Purpose.SCORE)], 3)
        assert np.array_equal(played.returns, last.returns[agent : agent + 1])
        assert np.array_equal(played.lengths, last.lengths[agent : agent + 1])
