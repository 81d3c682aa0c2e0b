"""Gradient steps of S agents in one tensor program: `update` of `worker.trainers.dqn.agent`.

A row of each tensor is an agent's. The agents share the instruction stream and the shape of what
they learn, nothing else: whatever happens to one of them leaves the bits of the others as they
were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from worker.trainers.dqn.backprop import Backprop
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.replay import Batches

if TYPE_CHECKING:
    from worker.trainers.dqn.agent import Agent


class Stack(NamedTuple):
    """What S agents of one shape learn in: networks, Adam's averages, an update's inputs."""

    online: StackedNetwork
    target: StackedNetwork
    exp_avg: Tensor  # [S, P]
    exp_avg_sq: Tensor  # [S, P]
    gradient: Tensor  # [S, P]
    gamma: Tensor  # [S, 1, 1] discount per environment step
    loss_sum: Tensor  # [S] since the owner last zeroed it

    def rows(self, at: slice) -> Stack:
        """The same memory, of some of the agents; their networks must not be `scaled`."""
        return Stack(
            self.online.rows(at),
            self.target.rows(at),
            *(tensor[at] for tensor in self[2:] if isinstance(tensor, Tensor)),
        )


def make_stack(
    sizes: Sequence[int], agents: int, device: str | torch.device = "cpu", *, scaled: bool = False
) -> Stack:
    """Memory for agents whose networks have widths `sizes` (observation, hidden …, actions)."""
    online = StackedNetwork(sizes, agents, device, scaled=scaled)
    return Stack(
        online=online,
        target=StackedNetwork(sizes, agents, device),
        exp_avg=torch.zeros_like(online.flat),
        exp_avg_sq=torch.zeros_like(online.flat),
        gradient=torch.zeros_like(online.flat),
        gamma=torch.zeros(agents, 1, 1, device=device),
        loss_sum=torch.zeros(agents, device=device),
    )


class Learning:
    """Gradient steps of the agents of one stack.

    Args:
        params: Of all of them, as far as it is not an agent's own: learning rate, gamma and tau.
        stack: Where they learn.
    """

    def __init__(self, params: Params, stack: Stack) -> None:
        self._params, self._stack = params, stack
        self._backprop = Backprop(
            stack.online.sizes,
            stack.online.stack,
            params.batch_size,
            stack.online.flat.device,
            params.precision,
            next_states=params.batch_size if params.double_q else 0,
            target_states=params.batch_size * params.batches_together,
        )

    def update(self, batches: Batches, agents: Sequence[Agent]) -> None:
        """Take K gradient steps, each on one batch of every agent's own; `Agent.took` is to follow.

        The target network stands still meanwhile, so all batches pass through it at once.

        Args:
            batches: For the whole stack.
            agents: Those of the stack that learn; the others stay as they are.
        """
        params, scaling = self._params, self._stack.online.scaling
        if scaling is not None:
            states = scaling(batches.states.transpose(0, 1), inputs=3).transpose(0, 1)
            batches = batches._replace(states=states)
        # Products of views into the batches are slow, so the states are copied.
        states = batches.states.transpose(2, 3)  # [K, S, O, 2, B]
        states = states.flatten(3) if params.double_q else states[:, :, :, 0].contiguous()
        each = zip(states, self._targets(batches), batches.a_tm1, strict=True)
        errors = []
        for s_tm1, y_tm1, a_tm1 in each:
            errors.append(self._temporal_difference(s_tm1, y_tm1, a_tm1))
            for agent in agents:
                agent.adam_step()
        losses = self._losses(torch.cat(errors, dim=1)).sum((1, 2))  # [S]
        for agent in agents:
            # Summed where it lies: reading it each time would make a device wait for the host.
            agent.loss_sum.add_(losses[agent.at], alpha=1.0 / params.batch_size)

    def _targets(self, batches: Batches) -> Tensor:
        """Return what each action taken should have been worth.

        That is `[K, S, 1, B]`, or `[K, S, A, B]` where the next action is still to be picked.
        """
        s_t = batches.states[:, :, 1].permute(1, 2, 0, 3)  # [S, O, K, B]
        q_t = self._backprop.values(self._stack.target, s_t.flatten(2))  # [S, A, K·B]
        q_t = q_t.view(*q_t.shape[:2], *s_t.shape[2:]).permute(2, 0, 1, 3)  # [K, S, A, B]
        if not self._params.double_q:
            q_t = q_t.amax(2, keepdim=True)
        # Nothing comes after the end.
        v_t = torch.addcmul(q_t, batches.terminal_t, q_t, value=-1.0)
        return torch.addcmul(batches.r_t, v_t, self._stack.gamma)

    def _temporal_difference(self, states: Tensor, y_tm1: Tensor, a_tm1: Tensor) -> Tensor:
        """Return the temporal-difference errors `[S, 1, B]`; their gradient is the stack's then.

        Args:
            states: Before the action, and with `double_q` after it, `[S, O, B or 2B]`.
            y_tm1: One of `_targets`, `[S, 1 or A, B]`.
            a_tm1: Actions taken, `[S, 1, B]`.
        """
        params = self._params
        size = params.batch_size
        q = self._backprop.values(self._stack.online, states, keep=True)  # [S, A, B or 2B]
        q_tm1 = q[..., :size]
        if params.double_q:
            # van Hasselt et al., 2016, https://arxiv.org/abs/1509.06461
            y_tm1 = y_tm1.gather(1, q[..., size:].max(1, keepdim=True).indices)
        error = q_tm1.gather(1, a_tm1).sub_(y_tm1)  # [S, 1, B]
        # The derivative of the mean loss by the values of the actions taken.
        slope = error.clamp(-1.0, 1.0) if params.loss == "huber" else 2.0 * error
        slopes = torch.zeros_like(q_tm1).scatter_(1, a_tm1, slope.div_(size))
        gradient = self._stack.gradient
        self._backprop.gradient(slopes, out=gradient)
        # Each agent's gradient, scaled down to its own norm limit, as clip_grad_norm_ does it.
        gradient.renorm_(2, 0, params.max_grad_norm)
        return error

    def _losses(self, error: Tensor) -> Tensor:
        """Return what each of `error` costs."""
        if self._params.loss == "mse":
            return error.square()
        slope = error.clamp(-1.0, 1.0)
        return torch.sub(error, slope, alpha=0.5).mul_(slope)
