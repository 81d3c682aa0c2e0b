"""The same bits: from the same seeds, after an interruption, in another process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import ends, evaluations, fingerprint, numbers, training
from worker.trainers.dqn.episodes import evaluate
from worker.trainers.dqn.network import load_network
from worker.trainers.dqn.randomness import Purpose, stream
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import WALL_CLOCK, Evaluation, Score


def own_parts(
    running: Training, agent: int, found: list[Evaluation | Score]
) -> dict[str, torch.Tensor]:
    """All that belongs to one agent."""
    state = {name: torch.tensor(array) for name, array in running.state().items()}
    parts = {name: state[name][agent] for name in ("agent.online", "agent.target")}
    parts |= {name: state[name][agent] for name in ("agent.adam.exp_avg", "agent.adam.exp_avg_sq")}
    parts["memory"] = state["replay.rows"][agent]
    for end in found:
        values = {"score": end.returns} if isinstance(end, Score) else end.metrics
        for name, each in values.items():
            if name not in WALL_CLOCK:
                parts[f"{name} {end.step}"] = torch.tensor(each[agent])
    return parts


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1"])
def test_an_agent_is_a_function_of_its_own_seed(env_id: str) -> None:
    """Catches any randomness, update or environment that agents share."""
    first, second = training([1, 2, 3], env_id=env_id), training([1, 9, 3], env_id=env_id)
    found, other_found = ends(first), ends(second)
    for agent, same in [(0, True), (1, False), (2, True)]:
        parts = own_parts(first, agent, found)
        other_parts = own_parts(second, agent, other_found)
        equal = {
            name: torch.equal(part.nan_to_num(-1), other_parts[name].nan_to_num(-1))
            for name, part in parts.items()
        }
        if same:
            assert all(equal.values()), equal
        else:
            assert not equal["agent.online"]
            assert not equal["memory"]


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("boundary", [0, 1, 2, 3])
def test_a_resumed_training_is_the_uninterrupted_one(
    boundary: int, keep: Literal["best", "last"]
) -> None:
    """To the bit, from any segment's end, with wrapped memories and rounds that straddle."""
    params = replace(PARAMS, buffer_size=250, train_freq=7)
    straight = training(params=params, keep=keep)
    saved = straight.state()
    found = []
    for event in straight.run():
        if isinstance(event, Evaluation | Score):
            found.append(event)
        if isinstance(event, Evaluation) and straight.segment == boundary:
            saved = {name: array.copy() for name, array in straight.state().items()}
    resumed = training(params=params, keep=keep)
    list(resumed.run())  # whatever it was before, it becomes what it is given
    resumed.load_state(saved)
    assert resumed.segment == boundary
    assert list(map(numbers, ends(resumed))) == list(map(numbers, found[boundary:]))
    for name, array in straight.state().items():
        assert np.array_equal(array, resumed.state()[name]), name


def test_a_state_holds_arrays_of_its_own() -> None:
    """Catches a state that goes on changing while the training does."""
    running = training()
    evaluations(running)
    taken = running.state()
    before = {name: array.copy() for name, array in taken.items()}
    running.load_state(training().state())
    evaluations(running)
    assert all(np.array_equal(taken[name], before[name]) for name in before)


def spoiled(state: dict[str, NDArray[Any]]) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    """The state with each of its arrays missing or another's, and what is wrong with it."""
    for name, array in state.items():
        yield f"{name} missing", {key: x for key, x in state.items() if key != name}
        yield f"{name} larger", {**state, name: np.zeros((*array.shape, 2), array.dtype)}
        yield f"{name} as text", {**state, name: array.astype(np.str_)}
    yield "one more", {**state, "more": np.zeros(1)}
    yield "a segment too many", {**state, "segment": np.array(4)}
    yield "beyond its memory", {**state, "replay.position": np.array(10**6)}
    rows = state["replay.rows"]
    for action in (2.0, -1.0, 0.5, np.nan, np.inf):
        others = rows.copy()
        others[1, 3, 8] = action
        yield f"the action {action}", {**state, "replay.rows": others}
    yield (
        "a row more than there is room for",
        {
            **state,
            "replay.rows": np.concatenate([rows, rows[:, :1]], axis=1),
        },
    )


@pytest.mark.parametrize("normalize", ["none", "running"])
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_a_state_is_loaded_whole_or_not_at_all(
    compiled: bool, normalize: Literal["none", "running"]
) -> None:
    """Half of one would train on as if it were something."""
    params = replace(PARAMS, normalize=normalize, buffer_size=250)
    other, running = (
        training(params=params, seeds=seeds, compiled=compiled) for seeds in ([3, 4], [1, 2])
    )
    evaluations(other)
    events = running.run()
    while running.segment < 2:
        next(events)
    before = {name: array.copy() for name, array in running.state().items()}
    given = other.state()
    for what, state in spoiled(given):
        with pytest.raises((ValueError, LookupError, TypeError)):
            running.load_state(state)
        after = running.state()
        assert all(np.array_equal(after[name], before[name]) for name in before), what
    running.load_state(given)
    assert all(np.array_equal(array, given[name]) for name, array in running.state().items())


def test_a_state_of_other_agents_is_refused() -> None:
    with pytest.raises(ValueError, match=r"agent.online is float32 of shape \(1, "):
        training([1, 2]).load_state(training([1]).state())


def test_two_processes_give_the_same_bits() -> None:
    program = (
        "from worker.trainers.threads import use_one_thread; use_one_thread()\n"
        "from tests.unit.dqn.short import fingerprint, training\n"
        "print(fingerprint(training()))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.strip() == fingerprint(training())


def test_stopping_to_look_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fingerprint(training())
    monkeypatch.setattr("worker.trainers.dqn.trainer._SECONDS_PER_PROGRESS", 0.0)
    assert fingerprint(training()) == plain


def test_a_saved_agent_plays_as_it_did_in_the_stack() -> None:
    running = training([1, 2])
    *_, score = ends(running)
    assert isinstance(score, Score)
    for agent, seed in enumerate((1, 2)):
        alone = load_network({name: array[agent] for name, array in running.result().items()})
        played = evaluate(alone, "CartPole-v1", [stream(seed, 2, Purpose.SCORE)], 3)
        assert played.returns.mean(axis=1) == score.returns[agent]
