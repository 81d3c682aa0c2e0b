"""A saved agent, in NumPy alone: what shows or exports one does not wait for PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.trainers import envs
from worker.trainers.dqn.episodes import evaluate
from worker.trainers.environment import EnvLike


class Scaled(NamedTuple):
    """How an agent sees its observations."""

    mean: NDArray[np.float32]  # [O], or [S, O] of a stack
    factor: NDArray[np.float32]  # of what is left without the mean


_SCALED = ("observation.mean", "observation.factor")
Layers = list[tuple[NDArray[np.float32], NDArray[np.float32]]]  # weights and biases


class SavedAgent:
    """One Q-network, a multilayer perceptron with ReLU between the layers.

    Args:
        arrays: Of one agent out of `Trainer.result`: `q.0.weight` [out, in], `q.0.bias` [out] ….

    Raises:
        ValueError: The arrays are not those of one network.
    """

    stack = 1  # it plays as a stack of one does

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        stacked = stacked_layers(arrays)
        if len(stacked[0][0]) != 1:
            raise ValueError(f"the arrays of {len(stacked[0][0])} agents instead of one")
        self.layers: Layers = [(weight[0], bias[0]) for weight, bias in stacked]
        self.scaled = scaling_of(arrays)

    @property
    def sizes(self) -> list[int]:
        """Widths: observation, hidden …, actions."""
        return [self.layers[0][0].shape[1], *(len(bias) for _, bias in self.layers)]

    def act(self, observations: NDArray[np.floating]) -> NDArray[np.int64]:
        """The actions [N] of highest value for `observations` [N, O]."""
        actions: NDArray[np.int64] = self.greedy(np.asarray(observations)[None])[0]
        return actions

    def greedy(self, observations: NDArray[np.floating]) -> NDArray[np.int64]:
        """The actions [1, B] for `observations` [1, B, O], as `StackedNetwork.greedy` finds them.

        It is the same arithmetic, to the bit: an agent plays as it did when it was scored.
        """
        hidden = np.asarray(observations, np.float32)
        if self.scaled is not None:
            mean, factor = (np.atleast_2d(x)[:, None] for x in self.scaled)  # [1, 1, O]
            hidden = (hidden - mean) * factor
        *inner, (weight, bias) = [(w[None].mT, b[None, None]) for w, b in self.layers]
        for w, b in inner:
            hidden = np.maximum(hidden @ w + b, 0.0)
        actions: NDArray[np.int64] = (hidden @ weight + bias).argmax(2)
        return actions


def load_agent(arrays: Mapping[str, NDArray[Any]], env: EnvLike) -> SavedAgent:
    """The saved agent, if it is one for this environment.

    Raises:
        ValueError: The arrays are no Q-network, or none for this environment.
        StudyFileError: There is no such environment here.
    """
    agent, shape = SavedAgent(arrays), envs.inspect_env(env)
    if (agent.sizes[0], agent.sizes[-1]) != (shape.observation_size, shape.actions):
        raise ValueError(f"its network does not fit {env}")
    return agent


def count_parameters(arrays: Mapping[str, NDArray[Any]]) -> int:
    """The numbers in its weights and biases; how observations are scaled is not among them.

    Raises:
        ValueError: The arrays are no Q-network.
    """
    return sum(weight.size + bias.size for weight, bias in SavedAgent(arrays).layers)


def play_saved(
    arrays: Mapping[str, NDArray[Any]], env: EnvLike, *, seed: int, episodes: int
) -> NDArray[np.float64]:
    """Play greedy episodes with one saved agent; their returns [E].

    Raises:
        ValueError: The arrays are no Q-network, or none for this environment.
        StudyFileError: There is no such environment here.
    """
    played = evaluate(load_agent(arrays, env), env, [np.random.SeedSequence(seed)], episodes)
    returns: NDArray[np.float64] = played.returns[0]
    return returns


def export_onnx(arrays: Mapping[str, NDArray[Any]], notes: Mapping[str, str]) -> bytes:
    """A graph from "observation" [N, O] to "action" [N], with `notes` as its metadata.

    Raises:
        ValueError: The arrays are not those of one network.
        ImportError: onnx is not installed.
    """
    from worker.trainers.dqn.exports.onnx_graph import graph_of

    agent = SavedAgent(arrays)
    return graph_of(agent.layers, notes, scaled=agent.scaled)


def export_sb3(arrays: Mapping[str, NDArray[Any]], env: EnvLike, knobs: Mapping[str, Any]) -> bytes:
    """What `stable_baselines3.DQN.load` takes.

    Args:
        arrays: Of the agent.
        env: Its environment.
        knobs: What it was trained with.

    Raises:
        ValueError: The arrays are not those of one network, or not of one for this environment.
        ImportError: Stable-Baselines3 is not installed.
    """
    from worker.trainers.dqn.exports.sb3_zip import zip_of

    agent = load_agent(arrays, env)
    layers = agent.layers if agent.scaled is None else without_scaling(agent.layers, agent.scaled)
    return zip_of(layers, env, knobs)


def stacked_layers(
    arrays: Mapping[str, NDArray[Any]],
) -> Layers:
    """Weights [S, out, in] and biases [S, out] of each layer, from `StackedNetwork.named_arrays`.

    The arrays of one agent (`array[i]`, without the leading S) make a stack of one.

    Raises:
        ValueError: The arrays are not those of one network.
    """
    if scaling_of(arrays) is not None:
        arrays = {name: array for name, array in arrays.items() if name not in _SCALED}
    depth = len(arrays) // 2
    names = {f"q.{n}.{part}" for n in range(depth) for part in ("weight", "bias")}
    if not depth or set(arrays) != names:
        raise ValueError(f"not the arrays of a Q-network: {', '.join(sorted(arrays)) or 'none'}")
    layers = [
        (np.asarray(arrays[f"q.{n}.weight"]), np.asarray(arrays[f"q.{n}.bias"]))
        for n in range(depth)
    ]
    if layers[0][0].ndim == 2:
        layers = [(weight[None], bias[None]) for weight, bias in layers]
    shapes = [(*weight.shape, *bias.shape) for weight, bias in layers]
    stack, *sizes = layers[0][0].shape[::2]
    sizes += [width for weight, _ in layers for width in weight.shape[1:2]]
    if shapes != [(stack, o, i, stack, o) for i, o in pairwise(sizes)]:
        raise ValueError(f"layers of these shapes do not fit each other: {shapes}")
    return layers


def scaling_of(arrays: Mapping[str, NDArray[Any]]) -> Scaled | None:
    """How the agents see their observations; None: as they are.

    Raises:
        ValueError: Only half of it is there, or it does not fit the first layer.
    """
    found = [np.asarray(arrays[name]) for name in _SCALED if name in arrays]
    if not found:
        return None
    inputs = np.asarray(arrays.get("q.0.weight", 0)).shape[-1:]
    if len(found) != 2 or {each.shape for each in found} != {(*found[0].shape[:-1], *inputs)}:
        raise ValueError("the scaling of its observations does not fit its network")
    return Scaled(*found)


def without_scaling(layers: Layers, scaled: Scaled) -> Layers:
    """Layers of one agent that take the observations themselves: the first scales them."""
    (weight, bias), *rest = layers
    exact, (mean, factor) = weight.astype(np.float64), (x.reshape(-1) for x in scaled)
    first = exact * factor
    return [
        (first.astype(np.float32), (bias - first @ mean).astype(np.float32)),
        *rest,
    ]
