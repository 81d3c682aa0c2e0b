"""DQN (Mnih et al., 2015, https://doi.org/10.1038/nature14236) for S agents in one tensor program.

The agents share their hyperparameters and the instruction stream, nothing else: whatever happens to
one of them leaves the bits of the others as they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation gives it
from numpy.typing import NDArray
from torch import Tensor

from worker.dqn.network import StackedNetwork
from worker.dqn.params import Params
from worker.dqn.replay import Batch

# A unit that no longer fires leaves Adam's averages to decay into the subnormal numbers and to stay
# there (the smallest one times 0.9 rounds to itself), where every step takes several times as long.
# So what is below this is dropped now and then; even over Adam's eps it moves no parameter.
_NEGLIGIBLE = 1e-30
_UPDATES_PER_SWEEP = 128  # it takes 175 updates to decay from there to the subnormals


class Agent:
    """S agents with two verbs, `act` and `update`."""

    def __init__(
        self,
        *,
        params: Params,
        observation_size: int,
        actions: int,
        generators: Sequence[np.random.Generator],
        device: str | torch.device = "cpu",
    ) -> None:
        """Make one agent for each of `generators`, which draw their first networks."""
        self._params = params
        self._device = torch.device(device)
        stack = len(generators)
        sizes = (observation_size, *params.net_arch, actions)
        self.online = StackedNetwork(sizes, stack, device)
        self.target = StackedNetwork(sizes, stack, device)
        self.online.initialize(generators)
        self.target.flat.copy_(self.online.flat)
        self.updates = 0
        self.loss_sum = torch.zeros(stack, device=device)  # [S] since the owner last zeroed it
        flat = self.online.flat
        flat.grad = torch.zeros_like(flat)
        self._gradient = flat.grad  # [S, P]
        self._adam = torch.optim.Adam([flat], lr=params.learning_rate, eps=1e-8, fused=True)
        # Adam makes its state on the first step; made here, it can be saved and loaded before it.
        self._moments = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(flat),
            "exp_avg_sq": torch.zeros_like(flat),
        }
        self._adam.state[flat] = self._moments

    @torch.no_grad()
    def act(self, observations: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the greedy actions [S] for `observations` [S, O]."""
        s_t = torch.as_tensor(observations, dtype=torch.float32, device=self._device)
        q_t = self.online(s_t.unsqueeze(1)).squeeze(1)  # [S, A]
        actions: NDArray[np.int64] = q_t.argmax(1).cpu().numpy()
        return actions

    def update(self, batch: Batch) -> None:
        """Take one gradient step on each agent's own batch, as far as its own gradient allows."""
        params = self._params
        with torch.no_grad():
            q_t = self.target(batch.s_t)  # [S, B, A]
            if params.double_q:
                # van Hasselt et al., 2016, https://arxiv.org/abs/1509.06461
                best = self.online(batch.s_t).argmax(2, keepdim=True)  # [S, B, 1]
                v_t = q_t.gather(2, best).squeeze(2)  # [S, B]
            else:
                v_t = q_t.amax(2)
            y_tm1 = batch.r_t + params.gamma * (1.0 - batch.terminal_t) * v_t
        q_tm1 = self.online(batch.s_tm1).gather(2, batch.a_tm1).squeeze(2)  # [S, B]
        cost = F.smooth_l1_loss if params.loss == "huber" else F.mse_loss
        losses = cost(q_tm1, y_tm1, reduction="none").mean(1)  # [S]
        self.online.gradient(losses, out=self._gradient)
        self._clip()
        self._adam.step()
        # Summed where it lies: reading it each time would make a device wait for the host.
        self.loss_sum += losses.detach()
        self.updates += 1
        if self.updates % _UPDATES_PER_SWEEP == 0:
            for moment in (self._moments["exp_avg"], self._moments["exp_avg_sq"]):
                moment.copy_(F.hardshrink(moment, _NEGLIGIBLE))

    def update_target(self) -> None:
        """Move each target network towards its online network, by tau."""
        self.target.flat.lerp_(self.online.flat, self._params.tau)

    def _clip(self) -> None:
        """Scale each agent's gradient down to its own norm limit, as clip_grad_norm_ does."""
        norm = torch.linalg.vector_norm(self._gradient, dim=1, keepdim=True)  # [S, 1]
        self._gradient.mul_((self._params.max_grad_norm / (norm + 1e-6)).clamp_(max=1.0))

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that learning has changed, except `loss_sum`."""
        return {
            "online": self.online.flat.detach().clone(),
            "target": self.target.flat.clone(),
            "updates": torch.tensor(self.updates),
            **{f"adam.{name}": moment.clone() for name, moment in self._moments.items()},
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Become the agents that `state` was taken from."""
        self.online.flat.copy_(state["online"])
        self.target.flat.copy_(state["target"])
        self.updates = int(state["updates"])
        for name, moment in self._moments.items():
            moment.copy_(state[f"adam.{name}"])
