"""S Q-networks of one shape, stored and evaluated as one.

All parameters of an agent are one row of one tensor, `flat [S, P]`, and the layers are views into
it. Adam, the norm of an agent's gradient and the target update are then one operation each,
whatever the depth, and an agent is one row to save.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.trainers.dqn.saved import scaling_of, stacked_layers
from worker.trainers.dqn.scaling import Scaling


class Layer(NamedTuple):
    """One layer of all S networks, as views into their flat storage."""

    weight: Tensor  # [S, out, in], as torch.nn.Linear has it
    bias: Tensor  # [S, out, 1]


class StackedNetwork:
    """S multilayer perceptrons with ReLU between the layers."""

    def __init__(
        self,
        sizes: Sequence[int],
        stack: int,
        device: str | torch.device = "cpu",
        *,
        scaled: bool = False,
        flat: Tensor | None = None,
    ) -> None:
        """Lay out `stack` networks of widths `sizes` (observation, hidden …, actions), all zero.

        Those that are `scaled` see observations through their `scaling`. Given `flat` [S, P], they
        are what lies there.
        """
        self.sizes = tuple(sizes)
        self.scaling = Scaling(stack, sizes[0], device) if scaled else None
        self.stack = stack
        self._widths = [n for i, o in pairwise(sizes) for n in (o * i, o)]
        if flat is None:
            flat = torch.zeros(stack, sum(self._widths), device=device)
        self.flat = flat  # [S, P]
        parts = iter(torch.split(self.flat, self._widths, dim=1))
        self.layers = [
            Layer(weight=next(parts).view(stack, o, i), bias=next(parts).unsqueeze(2))
            for i, o in pairwise(sizes)
        ]
        # The same memory for NumPy, where it can be had: [S, in, out] and [S, 1, out].
        self._on_host = (
            [(weight.mT.numpy(), bias.mT.numpy()) for weight, bias in self.layers]
            if self.flat.device.type == "cpu"
            else None
        )

    def rows(self, at: slice) -> StackedNetwork:
        """Return some of the networks, in the same memory; they must not be `scaled`."""
        flat = self.flat[at]
        return StackedNetwork(self.sizes, len(flat), flat.device, flat=flat)

    def __call__(self, observations: Tensor) -> Tensor:
        """Return the action values [S, B, A] of `observations` [S, B, O].

        `worker.trainers.dqn.backprop` has the pass to learn from.
        """
        hidden = observations if self.scaling is None else self.scaling(observations)
        for weight, bias in self.layers[:-1]:
            hidden = torch.baddbmm(bias.mT, hidden, weight.mT).relu_()  # [S, B, H]
        weight, bias = self.layers[-1]
        return torch.baddbmm(bias.mT, hidden, weight.mT)  # [S, B, A]

    def values(self, observations: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the action values [S, B, A] of `observations` [S, B, O]."""
        inputs = torch.from_numpy(np.asarray(observations, np.float32)).to(self.flat.device)
        values: NDArray[np.float32] = self(inputs).cpu().numpy()
        return values

    def greedy(self, observations: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the actions [S, B] of highest value for `observations` [S, B, O].

        On a CPU this is NumPy's work, as the environments' steps are. PyTorch's and NumPy's code in
        turns drive each other out of the instruction cache, and both take twice as long.
        """
        hidden = np.asarray(observations, np.float32)
        actions: NDArray[np.int64]
        if self._on_host is None:
            actions = self.values(hidden).argmax(2)
            return actions
        *inner, (weight, bias) = self._on_host
        if self.scaling is not None and self.scaling.on_host is not None:
            mean, factor = self.scaling.on_host  # [S, O]
            hidden = (hidden - mean[:, None]) * factor[:, None]
        with np.errstate(over="ignore", invalid="ignore"):  # a training that diverges finds out
            for w, b in inner:
                hidden = hidden @ w  # [S, B, H]
                hidden += b
                np.maximum(hidden, 0.0, out=hidden)
            actions = (hidden @ weight + bias).argmax(2)
        return actions

    def initialize(self, generators: Sequence[np.random.Generator]) -> None:
        """Draw the parameters of agent i from `generators[i]`.

        U(-1/√fan_in, 1/√fan_in) for weights and biases: torch.nn.Linear's own
        (https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html).
        """
        fan_in = [i for i, _ in pairwise(self.sizes) for _ in ("weight", "bias")]
        bound = np.repeat([1.0 / math.sqrt(n) for n in fan_in], self._widths)  # [P]
        for row, rng in zip(self.flat, generators, strict=True):
            row.copy_(torch.from_numpy(rng.uniform(-bound, bound)))

    def named_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return copies by name: `q.0.weight` [S, out, in], `q.0.bias` [S, out], `q.1.weight` …."""
        arrays = {}
        for n, (weight, bias) in enumerate(self.layers):
            arrays[f"q.{n}.weight"] = weight.cpu().numpy().copy()
            arrays[f"q.{n}.bias"] = bias.squeeze(2).cpu().numpy().copy()
        return arrays if self.scaling is None else {**arrays, **self.scaling.named_arrays()}


class KeptNetworks:
    """A copy of each agent's networks as they were when they did best.

    Args:
        online: The networks that learn; copies are made of these.
    """

    def __init__(self, online: StackedNetwork) -> None:
        self.networks = StackedNetwork(
            online.sizes, online.stack, online.flat.device, scaled=online.scaling is not None
        )
        self._means = torch.full((online.stack,), -torch.inf, dtype=torch.float64)  # [S]

    def offer(
        self, online: StackedNetwork, means: NDArray[np.float64], *, always: bool = False
    ) -> None:
        """Keep those that did at least as well (`means` [S]) as what is kept, or `always` all.

        Of equals the later are kept: they have learned for longer.
        """
        offered = torch.from_numpy(means)
        better = torch.ones_like(offered, dtype=torch.bool) if always else offered >= self._means
        rows = better.to(online.flat.device).unsqueeze(1)  # [S, 1]
        self.networks.flat.copy_(torch.where(rows, online.flat, self.networks.flat))
        if self.networks.scaling is not None and online.scaling is not None:
            self.networks.scaling.copy_(online.scaling, rows)
        self._means.copy_(torch.where(better, offered, self._means))

    def state(self) -> dict[str, Tensor]:
        """Return copies of the networks kept and of what they did."""
        state = {"networks": self.networks.flat.clone(), "means": self._means.clone()}
        if self.networks.scaling is not None:
            state |= {f"scaling.{name}": x for name, x in self.networks.scaling.state().items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Keep what `state` held."""
        self.networks.flat.copy_(state["networks"])
        self._means.copy_(state["means"])
        if self.networks.scaling is not None:
            self.networks.scaling.load_state(
                {name: state[f"scaling.{name}"] for name in ("mean", "factor")}
            )


def load_network(
    arrays: Mapping[str, NDArray[np.float32]], device: str | torch.device = "cpu"
) -> StackedNetwork:
    """Rebuild a network from `named_arrays`, whole or sliced.

    The arrays of one agent (`array[i]`, without the leading S) make a stack of one.

    Raises:
        ValueError: the arrays are not those of one network.
    """
    layers, scaling = stacked_layers(arrays), scaling_of(arrays)
    weights = [weight for weight, _ in layers]
    stack, sizes = len(weights[0]), [weights[0].shape[2], *(weight.shape[1] for weight in weights)]
    network = StackedNetwork(sizes, stack, device, scaled=scaling is not None)
    if scaling is not None and network.scaling is not None:
        network.scaling.load_state(
            {name: torch.from_numpy(np.atleast_2d(x)) for name, x in scaling._asdict().items()}
        )
    for (weight, bias), (w, b) in zip(network.layers, layers, strict=True):
        weight.copy_(torch.from_numpy(w))
        bias.copy_(torch.from_numpy(b).unsqueeze(2))
    return network
