"""S stacked networks are S plain ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.dqn.test_reference import network_of
from worker.trainers.dqn.backprop import Backprop
from worker.trainers.dqn.network import StackedNetwork, load_network

SIZES = (4, 24, 12, 3)
STACK = 3


def stacked(seed: int = 0) -> StackedNetwork:
    network = StackedNetwork(SIZES, STACK)
    network.initialize([np.random.default_rng([seed, i]) for i in range(STACK)])
    return network


def plain(network: StackedNetwork, agent: int) -> nn.Sequential:
    """Agent `agent`'s network out of torch.nn."""
    return network_of(network.flat[agent], network.sizes)


def observations(batch: int = 7) -> torch.Tensor:
    rng = np.random.default_rng(5)
    return torch.from_numpy(rng.normal(size=(STACK, batch, SIZES[0])).astype(np.float32))


def test_values_are_those_of_separate_networks() -> None:
    network, inputs = stacked(), observations()
    found = network(inputs)
    assert found.shape == (STACK, 7, SIZES[-1])
    for i in range(STACK):
        torch.testing.assert_close(found[i], plain(network, i)(inputs[i]))


def test_greedy_actions_are_those_of_the_highest_values() -> None:
    network, inputs = stacked(), observations(50)
    actions = network.greedy(inputs.numpy())
    assert np.array_equal(actions, network(inputs).argmax(2))
    assert len(np.unique(actions)) == SIZES[-1]
    network.flat.neg_()  # the same memory, so NumPy sees it at once
    assert np.array_equal(network.greedy(inputs.numpy()), network(inputs).argmax(2))
    network._on_host = None  # as on a device whose memory NumPy cannot see
    assert np.array_equal(network.greedy(inputs.numpy()), network(inputs).argmax(2))


def test_an_agents_greedy_actions_do_not_depend_on_the_others() -> None:
    network, inputs = stacked(), observations(50).numpy()
    before = network.greedy(inputs)
    network.flat[1] = math.nan
    assert np.array_equal(network.greedy(inputs)[::2], before[::2])


def test_values_to_learn_from_are_those_to_act_on() -> None:
    network, inputs = stacked(), observations()
    passes = Backprop(SIZES, STACK, 7, "cpu")
    for keep in (True, False, True):
        values = passes.values(network, inputs.mT.contiguous(), keep=keep)
        torch.testing.assert_close(values.mT, network(inputs))


def test_gradients_are_those_of_separate_networks() -> None:
    network, inputs = stacked(), observations()
    passes = Backprop(SIZES, STACK, 7, "cpu")
    values = passes.values(network, inputs.mT.contiguous(), keep=True)  # [S, A, B]
    passes.values(stacked(seed=1), 2.0 * inputs.mT)  # one that is not kept changes nothing
    gradient = torch.full_like(network.flat, math.nan)
    passes.gradient(2.0 * values, out=gradient)  # of the sum of squares
    for i in range(STACK):
        reference = plain(network, i)
        reference(inputs[i]).square().sum().backward()
        wanted = []
        for parameter in reference.parameters():
            assert parameter.grad is not None
            wanted.append(parameter.grad.flatten())
        torch.testing.assert_close(gradient[i], torch.cat(wanted))


def test_parameters_start_as_those_of_nn_linear() -> None:
    network = StackedNetwork((100, 400, 2), 2)
    network.initialize([np.random.default_rng(i) for i in range(2)])
    for (weight, bias), fan_in in zip(network.layers, (100, 400), strict=True):
        bound = 1 / math.sqrt(fan_in)
        for parameter in (weight, bias):
            assert parameter.abs().max() <= bound
            assert parameter.abs().max() > 0.2 * bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_each_agent_draws_its_network_from_its_own_generator() -> None:
    alone = StackedNetwork(SIZES, 1)
    alone.initialize([np.random.default_rng([0, 1])])
    assert torch.equal(stacked().flat[1], alone.flat[0])
    assert not torch.equal(stacked().flat[0], alone.flat[0])


def test_the_layers_are_views_of_the_flat_storage() -> None:
    network, inputs = stacked(), observations()
    before = network(inputs)
    network.flat.mul_(2.0)
    assert not torch.allclose(before, network(inputs))


def test_arrays_rebuild_the_stack_and_any_one_agent() -> None:
    network, inputs = stacked(), observations()
    arrays = network.named_arrays()
    assert {name: array.shape for name, array in arrays.items()} == {
        "q.0.weight": (3, 24, 4),
        "q.0.bias": (3, 24),
        "q.1.weight": (3, 12, 24),
        "q.1.bias": (3, 12),
        "q.2.weight": (3, 3, 12),
        "q.2.bias": (3, 3),
    }
    assert torch.equal(load_network(arrays).flat, network.flat)
    one = load_network({name: array[1] for name, array in arrays.items()})
    assert one.stack == 1
    torch.testing.assert_close(one(inputs[1:2]), network(inputs)[1:2])


def test_arrays_are_copies() -> None:
    network = stacked()
    arrays = network.named_arrays()
    before = {name: array.copy() for name, array in arrays.items()}
    network.flat.zero_()
    assert all(np.array_equal(arrays[name], before[name]) for name in arrays)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"q.0.weight": np.zeros((2, 4))},
        {"q.0.weight": np.zeros((2, 4)), "q.1.bias": np.zeros(2)},
        {"q.0.weight": np.zeros((2, 4)), "q.0.bias": np.zeros(3)},
        {"q.0.weight": np.zeros(4), "q.0.bias": np.zeros(3)},
        {
            "q.0.weight": np.zeros((5, 4)),
            "q.0.bias": np.zeros(5),
            "q.1.weight": np.zeros((2, 6)),
            "q.1.bias": np.zeros(2),
        },
    ],
    ids=["none", "no bias", "a gap", "bias of another width", "a vector", "layers do not meet"],
)
def test_arrays_of_anything_else_are_refused(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"Q-network|fit"):
        load_network({name: array.astype(np.float32) for name, array in arrays.items()})
