"""What learning does with S stacked networks: passes forward and back, in memory made once.

Three things differ from the pass that acts, and each is worth it:

- The batch is the last dimension (`[S, H, B]`). The last layer has as many rows as there are
  actions, and a matrix product that is two columns wide takes ten times as long as one that is two
  rows high.
- The results lie in buffers. A fresh tensor of this size comes from the operating system page by
  page, which costs more than filling it.
- The way back is written out. Five lines for a multilayer perceptron save a third of the time that
  an update of small networks takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from worker.dqn.network import StackedNetwork

# ReLU's derivative, in place; torch.where and a product with a mask take twice as long.
_relu_backward = torch.ops.aten.threshold_backward.grad_input


class Backprop:
    """Passes of networks of one shape over batches of one size.

    Args:
        sizes: Widths of the networks: observation, hidden …, actions.
        stack: How many networks.
        batch_size: Observations for each.
        device: Where the networks are.
    """

    def __init__(
        self, sizes: Sequence[int], stack: int, batch_size: int, device: str | torch.device
    ) -> None:
        def buffers() -> list[Tensor]:
            return [torch.empty(stack, width, batch_size, device=device) for width in sizes[1:-1]]

        self._kept, self._passing, self._deltas = buffers(), buffers(), buffers()  # [S, H, B] each
        self._inputs: list[Tensor] = []  # of each layer, in the pass that was kept
        self._gradients = [
            (torch.empty(stack, o, i, device=device), torch.empty(stack, o, device=device))
            for i, o in pairwise(sizes)
        ]

    def values(self, network: StackedNetwork, s: Tensor, *, keep: bool = False) -> Tensor:
        """Return the action values [S, A, B] of the observations `s` [S, B, O].

        `gradient` is of the last pass that was kept.
        """
        hidden = s.mT.contiguous()  # [S, O, B]; its product with [S, H, B] is slow on a view
        buffers = self._kept if keep else self._passing
        if keep:
            self._inputs = [hidden, *buffers]
        for (weight, bias), buffer in zip(network.layers[:-1], buffers, strict=True):
            hidden = torch.baddbmm(bias, weight, hidden, out=buffer).relu_()  # [S, H, B]
        weight, bias = network.layers[-1]
        return torch.baddbmm(bias, weight, hidden)  # [S, A, B]

    def gradient(self, network: StackedNetwork, slope: Tensor, out: Tensor) -> None:
        """Write the gradient of each agent's own loss to `out` [S, P].

        Args:
            network: That of the last pass that was kept.
            slope: Derivative of each agent's loss by the action values of that pass [S, A, B].
            out: One row for each agent, laid out as `network.flat`.
        """
        delta = slope
        for at in reversed(range(len(self._inputs))):
            by_weight, by_bias = self._gradients[at]
            torch.bmm(delta, self._inputs[at].mT, out=by_weight)
            torch.sum(delta, 2, out=by_bias)
            if at:
                below = self._deltas[at - 1]
                torch.bmm(network.layers[at].weight.mT, delta, out=below)
                delta = _relu_backward(below, self._inputs[at], 0, grad_input=below)
        parts = [part.flatten(1) for pair in self._gradients for part in pair]
        torch.cat(parts, dim=1, out=out)
