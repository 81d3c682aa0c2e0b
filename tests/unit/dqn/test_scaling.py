"""Observations that are scaled by what each agent has seen: in training, in checkpoints, saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import training
from worker.trainers.dqn.network import StackedNetwork, load_network
from worker.trainers.dqn.saved import SavedAgent, scaling_of, stacked_layers, without_scaling
from worker.trainers.dqn.scaling import Normalizer, Scaling, Statistics
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Evaluation, Score

Way = Literal["running", "fixed"]


def drawn(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    scale, shift = 10.0 ** np.arange(shape[-1]), np.arange(shape[-1]) * 7.0
    drawn: NDArray[np.float32] = (rng.normal(size=shape) * scale + shift).astype(np.float32)
    return drawn


def test_statistics_are_those_of_all_that_was_seen() -> None:
    seen = drawn((300, 2, 4))  # [T, S, O]
    statistics, scaling = Statistics(2, 4), Scaling(2, 4, "cpu")
    for part in np.split(seen, [1, 8, 200]):
        statistics.add(part)
    statistics.write(scaling)
    exact = seen.astype(np.float64)
    np.testing.assert_allclose(scaling.mean.numpy(), exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(scaling.factor.numpy(), 1 / exact.std(0), rtol=1e-5)


def test_an_agents_statistics_are_its_own_to_the_bit() -> None:
    seen = drawn((50, 3, 1))
    alone, together = Statistics(1, 1), Statistics(3, 1)
    for part in np.split(seen, [7, 20]):
        alone.add(part[:, 1:2])
        together.add(part)
    for name, array in together.state().items():
        expected = array if name == "count" else array[1:2]
        assert torch.equal(alone.state()[name], expected)


def test_an_input_that_has_never_changed_is_only_shifted() -> None:
    statistics, scaling = Statistics(1, 2), Scaling(1, 2, "cpu")
    statistics.add(np.array([[[3.0, 1e6]], [[3.0, 1e6]]]))
    statistics.write(scaling)
    assert scaling.factor.tolist() == [[1.0, 1.0]]
    assert scaling(torch.tensor([[[3.0, 1e6]]])).tolist() == [[[0.0, 0.0]]]


@pytest.mark.parametrize("fixed", [False, True])
def test_fixed_ends_with_the_first_update(fixed: bool) -> None:
    scaling = Scaling(1, 1, "cpu")
    normalizer = Normalizer(scaling, fixed=fixed)
    for value in (0.0, 2.0):
        normalizer.see(np.array([[value]]))
    normalizer.update(updates=0)
    assert scaling.mean.tolist() == [[1.0]]
    normalizer.see(np.array([[4.0]]))
    normalizer.update(updates=1)
    assert scaling.mean.tolist() == [[1.0 if fixed else 2.0]]


def scaled_network(stack: int = 2) -> StackedNetwork:
    network = StackedNetwork((4, 8, 3), stack, scaled=True)
    network.initialize([np.random.default_rng(seed) for seed in range(stack)])
    assert network.scaling is not None
    statistics = Statistics(stack, 4)
    statistics.add(drawn((20, stack, 4)))
    statistics.write(network.scaling)
    return network


def one(network: StackedNetwork, agent: int) -> dict[str, Any]:
    return {name: array[agent] for name, array in network.named_arrays().items()}


def test_acting_and_learning_see_the_same() -> None:
    network, seen = scaled_network(), drawn((2, 64, 4), seed=1)
    assert (network(torch.from_numpy(seen)).argmax(2).numpy() == network.greedy(seen)).all()
    unscaled = StackedNetwork((4, 8, 3), 2)
    unscaled.flat.copy_(network.flat)
    assert network.scaling is not None
    by_hand = unscaled(network.scaling(torch.from_numpy(seen)))
    assert torch.equal(by_hand, network(torch.from_numpy(seen)))


@pytest.mark.parametrize("agent", [0, 1])
def test_a_saved_agent_sees_as_it_did_to_the_bit(agent: int) -> None:
    network, seen = scaled_network(), drawn((2, 500, 4), seed=1)
    saved = SavedAgent(one(network, agent))
    assert (saved.act(seen[agent]) == network.greedy(seen)[agent]).all()
    loaded = load_network(one(network, agent))
    assert (loaded.greedy(seen[agent][None])[0] == saved.act(seen[agent])).all()


def test_the_first_layer_can_take_the_scaling_over() -> None:
    network, seen = scaled_network(1), drawn((1, 500, 4), seed=1)
    saved = SavedAgent(one(network, 0))
    assert saved.scaled is not None
    layers = without_scaling(saved.layers, saved.scaled)
    plain = {
        f"q.{n}.{name}": array
        for n, layer in enumerate(layers)
        for name, array in zip(("weight", "bias"), layer, strict=True)
    }
    assert SavedAgent(plain).scaled is None
    assert (SavedAgent(plain).act(seen[0]) == saved.act(seen[0])).mean() > 0.99


def test_an_onnx_graph_scales_too() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from worker.trainers.dqn.saved import export_onnx

    network, seen = scaled_network(1), drawn((1, 500, 4), seed=1)
    session = onnxruntime.InferenceSession(export_onnx(one(network, 0), {}))
    actions = session.run(["action"], {"observation": seen[0]})[0]
    assert (actions == network.greedy(seen)[0]).mean() > 0.99


@pytest.mark.parametrize("missing", ["observation.mean", "observation.factor"])
def test_half_a_scaling_is_refused(missing: str) -> None:
    arrays = one(scaled_network(), 0)
    del arrays[missing]
    with pytest.raises(ValueError, match="scaling of its observations does not fit"):
        SavedAgent(arrays)


def test_a_scaling_of_another_size_is_refused() -> None:
    arrays = one(scaled_network(), 0)
    arrays |= {name: arrays[name][:3] for name in ("observation.mean", "observation.factor")}
    with pytest.raises(ValueError, match="does not fit its network"):
        scaling_of(arrays)
    with pytest.raises(ValueError, match="does not fit its network"):
        stacked_layers(arrays)


def short_training(*, normalize: Way, seeds: Sequence[int] = (1, 2)) -> Training:
    return training(seeds, replace(PARAMS, normalize=normalize))


def outcome(events: Any) -> list[list[float]]:
    return [
        (event.returns if isinstance(event, Score) else event.metrics["return"]).tolist()
        for event in events
        if isinstance(event, Evaluation | Score)
    ]


@pytest.mark.parametrize("normalize", ["running", "fixed"])
@pytest.mark.parametrize("segments", [1, 2])
def test_a_resumed_training_ends_to_the_bit(normalize: Way, segments: int) -> None:
    whole_training = short_training(normalize=normalize)
    whole = outcome(whole_training.run())
    first = short_training(normalize=normalize)
    events = first.run()
    seen = 0
    for event in events:
        seen += isinstance(event, Evaluation)
        if seen == segments:
            break
    second = short_training(normalize=normalize)
    second.load_state({name: array.copy() for name, array in first.state().items()})
    assert outcome(second.run()) == whole[segments:]
    for name, array in whole_training.result().items():
        assert (second.result()[name] == array).all(), name


@pytest.mark.parametrize("normalize", ["running", "fixed"])
def test_who_trains_beside_an_agent_changes_nothing(normalize: Way) -> None:
    first, second = (short_training(seeds=[seed, 2], normalize=normalize) for seed in (1, 9))
    returns, others = outcome(first.run()), outcome(second.run())
    assert [row[1] for row in returns] == [row[1] for row in others]
    for name, array in first.result().items():
        assert (array[1] == second.result()[name][1]).all(), name
        assert (array[0] != second.result()[name][0]).any(), name


def test_what_is_kept_is_scaled_as_it_was_when_it_was_best() -> None:
    training = short_training(normalize="running")
    outcome(training.run())
    online = training._agent.online.scaling
    kept = training._kept.networks.scaling
    assert online is not None
    assert kept is not None
    means = training._kept.state()["means"]
    assert torch.isfinite(means).all()
    assert kept.mean.shape == online.mean.shape
