"""S Q-networks of one shape, stored and evaluated as one.

All parameters of an agent are one row of one tensor, `flat [S, P]`, and the layers are views into
it. Adam, the norm of an agent's gradient and the target update are then one operation each,
whatever the depth, and an agent is one row to save.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class StackedNetwork:
    """S multilayer perceptrons with ReLU between the layers."""

    def __init__(
        self, sizes: Sequence[int], stack: int, device: str | torch.device = "cpu"
    ) -> None:
        """Lay out `stack` networks of widths `sizes` (observation, hidden …, actions), all zero."""
        self.sizes = tuple(sizes)
        self.stack = stack
        self._widths = [n for i, o in pairwise(sizes) for n in (i * o, o)]
        self.flat = torch.zeros(stack, sum(self._widths), device=device)  # [S, P]
        parts = iter(torch.split(self.flat, self._widths, dim=1))
        # Leaves of their own, so that autograd.grad differentiates by layer and never by `flat`.
        self.layers = [
            (
                next(parts).view(stack, i, o).detach().requires_grad_(),  # [S, i, o]
                next(parts).unsqueeze(1).detach().requires_grad_(),  # [S, 1, o]
            )
            for i, o in pairwise(sizes)
        ]

    def __call__(self, observations: Tensor) -> Tensor:
        """Return the action values [S, B, A] of `observations` [S, B, O]."""
        hidden = observations
        for weight, bias in self.layers[:-1]:
            hidden = torch.relu_(torch.baddbmm(bias, hidden, weight))  # [S, B, H]
        weight, bias = self.layers[-1]
        return torch.baddbmm(bias, hidden, weight)  # [S, B, A]

    def gradient(self, losses: Tensor, out: Tensor) -> None:
        """Write the gradient of each agent's own loss (`losses` [S]) to `out` [S, P].

        A sum keeps the agents apart: no parameter of one appears in the loss of another.

        Autograd rather than a backward pass by hand: that one measured within 10% for two layers
        of 120 or more units, and would have to be right a second time for every new loss.
        """
        leaves = [parameter for layer in self.layers for parameter in layer]
        gradients = torch.autograd.grad(losses.sum(), leaves)
        torch.cat([gradient.flatten(1) for gradient in gradients], dim=1, out=out)

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
        """Return copies by name: `q.0.weight` [S, in, out], `q.0.bias` [S, out], `q.1.weight` …."""
        arrays = {}
        for n, (weight, bias) in enumerate(self.layers):
            arrays[f"q.{n}.weight"] = weight.detach().cpu().numpy().copy()
            arrays[f"q.{n}.bias"] = bias.detach().squeeze(1).cpu().numpy().copy()
        return arrays


def load_network(
    arrays: Mapping[str, NDArray[np.float32]], device: str | torch.device = "cpu"
) -> StackedNetwork:
    """Rebuild a network from `named_arrays`, whole or sliced.

    The arrays of one agent (`array[i]`, without the leading S) make a stack of one.

    Raises:
        ValueError: the arrays are not those of one network.
    """
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
    stack, *sizes = layers[0][0].shape[:2]
    sizes += [weight.shape[-1] for weight, _ in layers]
    if shapes != [(stack, i, o, stack, o) for i, o in pairwise(sizes)]:
        raise ValueError(f"layers of these shapes do not fit each other: {shapes}")
    network = StackedNetwork(sizes, stack, device)
    with torch.no_grad():
        for (weight, bias), (w, b) in zip(network.layers, layers, strict=True):
            weight.copy_(torch.from_numpy(w))
            bias.copy_(torch.from_numpy(b).unsqueeze(1))
    return network
