"""Agents side by side: whose updates are whose, the target network, and what a state holds.

That an update is the right one is for `test_reference`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.test_reference import network_of
from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.replay import Batches

# Sizes, as in the shapes.
O, A, S = 4, 3, 3  # noqa: E741
K, B = PARAMS.batches_together, PARAMS.batch_size


def agents(params: Params, stack: int = S) -> Agent:
    generators = [np.random.default_rng(i) for i in range(stack)]
    return Agent(params=params, observation_size=O, actions=A, generators=generators)


def batches(count: int, scale: float = 1.0) -> list[Batches]:
    """Batches of noise; the agents' rewards differ in size, so that their gradients do."""
    rng = np.random.default_rng(7)

    def noise(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    sizes = scale * torch.tensor([0.1, 1.0, 30.0]).view(S, 1, 1)
    return [
        Batches(
            states=noise(K, S, 2, O, B),
            a_tm1=torch.from_numpy(rng.integers(A, size=(K, S, 1, B))),
            r_t=noise(K, S, 1, B) * sizes,
            terminal_t=(noise(K, S, 1, B) > 0.5).float(),
        )
        for _ in range(count)
    ]


def test_an_agents_update_does_not_depend_on_another_agents_batch() -> None:
    """To the bit, even when the other agent's numbers are as bad as they get."""
    first, second = agents(PARAMS), agents(PARAMS)
    for batch in batches(5):
        other = Batches(*(part.clone() for part in batch))
        other.r_t[:, 1] = math.nan
        other.states[:, 1, 1] = math.inf
        other.states[:, 1, 0] = 1e30
        first.update(batch)
        second.update(other)
        first.update_target()
        second.update_target()
    for i, same in enumerate([True, False, True]):
        assert torch.equal(first.online.flat[i], second.online.flat[i]) is same
        assert torch.equal(first.target.flat[i], second.target.flat[i]) is same
        assert (first.loss_sum[i] == second.loss_sum[i]).item() is same
    assert not second.online.flat[1].isfinite().all()


def test_adams_steps_are_those_of_torch_to_the_bit() -> None:
    stacked = agents(PARAMS)
    flat = stacked.online.flat.clone()
    adam = torch.optim.Adam([flat], lr=PARAMS.learning_rate, eps=1e-8, fused=True)
    rng = np.random.default_rng(0)
    for _ in range(5):
        gradient = torch.from_numpy(rng.normal(size=flat.shape).astype(np.float32))
        flat.grad = gradient
        stacked._stack.gradient.copy_(gradient)
        stacked.adam_step()
        adam.step()
        assert torch.equal(stacked.online.flat, flat)


@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_the_target_moves_by_tau_and_only_when_told(tau: float) -> None:
    stacked = agents(replace(PARAMS, tau=tau))
    start = stacked.target.flat.clone()
    for batch in batches(3):
        stacked.update(batch)
    assert torch.equal(stacked.target.flat, start)
    stacked.update_target()
    wanted = (1 - tau) * start + tau * stacked.online.flat
    torch.testing.assert_close(stacked.target.flat, wanted)
    if tau == 1.0:
        assert torch.equal(stacked.target.flat, stacked.online.flat)


def test_each_agent_acts_by_its_own_network() -> None:
    stacked = agents(PARAMS)
    observations = np.random.default_rng(3).normal(size=(20, S, O)).astype(np.float32)
    chosen = []
    for at_once in observations:
        actions = stacked.online.greedy(at_once[:, None])[:, 0]
        assert actions.shape == (S,)
        for i in range(S):
            plain = network_of(stacked.online.flat[i], (O, *PARAMS.net_arch, A))
            assert actions[i] == plain(torch.from_numpy(at_once[i])).argmax().item()
        chosen.append(actions)
    assert len(np.unique(chosen)) > 1


def test_a_state_taken_out_and_put_back_goes_on_the_same() -> None:
    straight, resumed = agents(PARAMS), agents(PARAMS)
    some = batches(150)
    for n, batch in enumerate(some[:100]):
        straight.update(batch)
        if n == 50:
            straight.update_target()
    resumed.load_state(straight.state())
    for batch in some[100:]:
        straight.update(batch)
        resumed.update(batch)
    for name, tensor in straight.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name


def test_a_state_taken_before_any_update_can_be_put_back() -> None:
    straight, resumed = agents(PARAMS), agents(PARAMS)
    state = straight.state()
    for batch in batches(2):
        resumed.update(batch)
    resumed.load_state(state)
    for batch in batches(2):
        straight.update(batch)
        resumed.update(batch)
    assert torch.equal(straight.online.flat, resumed.online.flat)


def test_adams_averages_never_linger_among_the_subnormals() -> None:
    """They would slow every later update down several times."""
    stacked = agents(replace(PARAMS, net_arch=(64,)))
    for parameter in stacked.online.layers[0]:
        parameter[:, :32] = -parameter[:, :32].abs()
    (batch,) = batches(1)
    positive = batch._replace(states=batch.states.abs())
    stacked.update(batch)  # every unit gets a gradient once, and half of them never again
    for _ in range(750):
        stacked.update(positive)
    average = stacked.state()["adam.exp_avg"]
    assert (average == 0).any()
    assert not ((average != 0) & (average.abs() < torch.finfo(torch.float32).tiny)).any()


def test_bf16_follows_fp32_to_its_own_precision() -> None:
    """Catches a precision that changes more than the rounding, and one that changes nothing."""
    exact, rounded = agents(PARAMS), agents(replace(PARAMS, precision="bf16"))
    start = exact.online.flat.clone()
    for batch in batches(20, scale=0.1):
        exact.update(batch)
        rounded.update(batch)
    way, gap = exact.online.flat - start, rounded.online.flat - exact.online.flat
    assert 0 < gap.norm() < 0.1 * way.norm()
    assert rounded.online.flat.dtype == torch.float32
