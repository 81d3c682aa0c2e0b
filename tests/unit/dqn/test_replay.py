"""The replay memories against a plain deque for each agent."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.trainers.dqn.replay import ReplayMemory

O = 2  # noqa: E741 - the observation size, as in the shapes


def held(memory: ReplayMemory, agent: int) -> list[float]:
    """The rewards an agent remembers, oldest first; each transition in the tests has its own."""
    size, position = memory.size, memory.position
    capacity = memory.capacity
    if not size:
        return []
    order = [(position - size + k) % capacity for k in range(size)]
    rows = torch.tensor([[[agent * capacity + k for k in order]]], dtype=torch.int64)
    states, a_tm1, r_t, terminal_t = (part[0, 0] for part in memory.sample(rows))
    # The fields of a row belong together.
    assert torch.equal(states[0], torch.cat([r_t, r_t + 0.5]))
    assert torch.equal(states[1], torch.cat([r_t + 0.25, -r_t]))
    assert torch.equal(a_tm1, (r_t % 3).long())
    assert torch.equal(terminal_t, (r_t % 2 == 0).float())
    return [float(x) for x in r_t[0]]


def add(memory: ReplayMemory, reward: np.ndarray) -> None:
    """Add the step of rewards [S] whose other fields follow from the reward."""
    memory.add(
        np.stack([reward, reward + 0.5], axis=1),
        (reward % 3).astype(np.int64),
        reward,
        np.stack([reward + 0.25, -reward], axis=1),
        reward % 2 == 0,
    )


@settings(max_examples=150, deadline=None)
@given(
    capacity=st.integers(1, 12),
    stack=st.integers(1, 3),
    flushes=st.lists(st.booleans(), max_size=60),
)
def test_each_agent_remembers_its_own_last_steps(
    capacity: int, stack: int, flushes: list[bool]
) -> None:
    """Catches a ring that wraps wrongly, and agents that share a row."""
    memory = ReplayMemory(stack=stack, capacity=capacity, observation_size=O)
    model = [deque[float](maxlen=capacity) for _ in range(stack)]
    for t, flush in enumerate(flushes):
        reward = np.array([1.0 + t * stack + i for i in range(stack)])
        add(memory, reward)
        for i in range(stack):
            model[i].append(reward[i])
        if flush:
            memory.flush()
    memory.flush()
    for i in range(stack):
        assert held(memory, i) == list(model[i])


@settings(max_examples=50, deadline=None)
@given(steps=st.integers(0, 30), more=st.integers(0, 30), capacity=st.integers(1, 20))
def test_a_state_remembers_the_same_and_goes_on_the_same(
    steps: int, more: int, capacity: int
) -> None:
    def memory_after(start: int, count: int, state: dict[str, torch.Tensor]) -> ReplayMemory:
        memory = ReplayMemory(stack=2, capacity=capacity, observation_size=O)
        memory.load_state(state)
        for t in range(start, start + count):
            add(memory, np.array([1.0 + t, 100.0 + t]))
        memory.flush()
        return memory

    empty = ReplayMemory(stack=2, capacity=capacity, observation_size=O).state()
    halfway = memory_after(0, steps, empty)
    resumed = memory_after(steps, more, halfway.state())
    straight = memory_after(0, steps + more, empty)
    for i in range(2):
        assert held(resumed, i) == held(straight, i)
    assert torch.equal(resumed.state()["rows"], straight.state()["rows"])


@pytest.mark.parametrize(
    ("size", "wanted"), [(1, [0, 0, 0]), (3, [0, 1, 2]), (99_999, [0, 49_999, 99_998])]
)
def test_random_words_reach_every_row_and_none_beyond(size: int, wanted: list[int]) -> None:
    """Catches a float product, which rounds the highest word up to a row that holds nothing."""
    memory = ReplayMemory(stack=2, capacity=100_000, observation_size=O)
    memory.size = size
    words = np.array([0, 2**31, 2**32 - 1], np.uint32)
    rows = memory.rows(np.broadcast_to(words, (2, 2, 3)))
    assert rows.tolist() == [[wanted, [100_000 + row for row in wanted]]] * 2


@pytest.mark.parametrize("size", [7, 50])
def test_sampling_is_uniform_over_what_each_agent_holds(size: int) -> None:
    memory = ReplayMemory(stack=2, capacity=50, observation_size=O)
    memory.size = size
    words = np.random.default_rng(0).integers(0, 2**32, (1, 2, 70_000), np.uint32)
    rows = memory.rows(words)[0].numpy()
    for rows_of_agent, first in [(rows[0], 0), (rows[1], 50)]:
        counts = np.bincount(rows_of_agent - first, minlength=size)
        assert counts.shape == (size,)
        mean = 70_000 / size
        assert ((counts - mean) ** 2 / mean).sum() < size + 6 * np.sqrt(2 * size)  # chi-squared


def test_more_steps_than_are_staged_at_once_lose_nothing() -> None:
    memory = ReplayMemory(stack=1, capacity=1000, observation_size=O)
    for t in range(700):
        add(memory, np.array([1.0 + t]))
    memory.flush()
    assert held(memory, 0) == [1.0 + t for t in range(700)]
