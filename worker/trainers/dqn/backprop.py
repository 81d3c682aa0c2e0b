"""What learning does with S stacked networks: passes forward and back, in memory made once.

Three things differ from the pass that acts, and each is worth it:

- The batch is the last dimension (`[S, H, B]`). The last layer has as many rows as there are
  actions, and a matrix product that is two columns wide takes ten times as long as one that is two
  rows high.
- The results lie in buffers. A fresh tensor of this size comes from the operating system page by
  page, which costs more than filling it.
- The way back is written out. Five lines for a multilayer perceptron save a third of the time that
  an update of small networks takes.

With `precision="bf16"` the matrix products, and what lies between them, are in bfloat16.
Parameters, action values, losses and Adam stay in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from worker.trainers.dqn.network import StackedNetwork

# ReLU's derivative, in place; torch.where or a product with a mask takes ten times as long or more.
_relu_backward = torch.ops.aten.threshold_backward.grad_input


class Backprop:
    """Passes of networks of one shape over batches of one size.

    Args:
        sizes: Widths of the networks: observation, hidden …, actions.
        stack: How many networks.
        batch_size: Observations for each.
        device: Where the networks are.
        precision: Of the matrix products.
        next_states: Further observations in a pass that is kept; they get no gradient.
        target_states: Observations in a pass that is not kept, which is the target network's.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        stack: int,
        batch_size: int,
        device: str | torch.device,
        precision: Literal["fp32", "bf16"] = "fp32",
        next_states: int = 0,
        target_states: int | None = None,
    ) -> None:
        self._batch_size = batch_size
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        kind: dict[str, Any] = {"device": device, "dtype": self._dtype}

        def buffers(count: int) -> list[Tensor]:
            return [torch.empty(stack, width, count, **kind) for width in sizes[1:-1]]

        self._kept = buffers(batch_size + next_states)  # [S, H, B + next] for each hidden layer
        self._not_kept = buffers(target_states or batch_size)  # [S, H, target]
        self._deltas = buffers(batch_size)  # [S, H, B]
        # Each layer's, in the pass that was kept.
        self._weights: list[Tensor] = []  # [S, out, in]
        # [S, in, B]; the first layer's is not known yet.
        self._inputs = [torch.empty(0), *(each[..., :batch_size] for each in self._kept)]
        self._gradients = [
            (torch.empty(stack, o, i, **kind), torch.empty(stack, o, **kind))
            for i, o in pairwise(sizes)
        ]
        self._parts = [part.flatten(1) for pair in self._gradients for part in pair]

    def values(self, network: StackedNetwork, s: Tensor, *, keep: bool = False) -> Tensor:
        """Return the action values [S, A, B] of the observations `s` [S, O, B].

        `gradient` is of the last pass that was kept.
        """
        hidden = s.to(self._dtype)
        layers: Sequence[tuple[Tensor, Tensor]] = network.layers
        if self._dtype is not torch.float32:
            layers = [(w.to(self._dtype), b.to(self._dtype)) for w, b in layers]
        buffers = self._kept if keep else self._not_kept
        if keep:
            self._weights = [weight for weight, _ in layers]
            self._inputs[0] = hidden[..., : self._batch_size]
        for (weight, bias), buffer in zip(layers, buffers, strict=False):
            hidden = torch.baddbmm(bias, weight, hidden, out=buffer).relu_()  # [S, H, B]
        weight, bias = layers[-1]
        return torch.baddbmm(bias, weight, hidden).float()  # [S, A, B]

    def gradient(self, slope: Tensor, out: Tensor) -> None:
        """Write the gradient of each agent's own loss to `out` [S, P], for the last pass kept.

        Args:
            slope: Derivative of each agent's loss by the action values of that pass [S, A, B].
            out: One row for each agent, laid out as `network.flat`.
        """
        delta = slope.to(self._dtype)
        for at in reversed(range(len(self._inputs))):
            by_weight, by_bias = self._gradients[at]
            torch.bmm(delta, self._inputs[at].mT, out=by_weight)
            torch.sum(delta, 2, out=by_bias)
            if at:
                below = self._deltas[at - 1]
                torch.bmm(self._weights[at].mT, delta, out=below)
                delta = _relu_backward(below, self._inputs[at], 0, grad_input=below)
        torch.cat(self._parts, dim=1, out=out)
