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

from worker.dqn.backprop import Backprop
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
        self._backprop = Backprop(
            sizes,
            stack,
            params.batch_size,
            self._device,
            params.precision,
            ahead=params.batch_size if params.double_q else 0,
        )
        self._gradient = torch.zeros_like(self.online.flat)  # [S, P]
        self._moments = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(self.online.flat),
            "exp_avg_sq": torch.zeros_like(self.online.flat),
        }
        self.updates = 0
        self.loss_sum = torch.zeros(stack, device=device)  # [S] since the owner last zeroed it

    def act(self, observations: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the greedy actions [S] for `observations` [S, O]."""
        s_t = torch.as_tensor(observations, dtype=torch.float32, device=self._device)
        q_t = self.online(s_t.unsqueeze(1)).squeeze(1)  # [S, A]
        actions: NDArray[np.int64] = q_t.max(1).indices.cpu().numpy()  # argmax is much slower
        return actions

    def update(self, batch: Batch) -> None:
        """Take one gradient step on each agent's own batch, as far as its own gradient allows."""
        params = self._params
        size = params.batch_size
        # Products of views into the batch are slow, so the states are copied.
        s_t = batch.s_t.mT.contiguous()  # [S, O, B]
        q_t = self._backprop.values(self.target, s_t)  # [S, A, B]
        if params.double_q:
            # van Hasselt et al., 2016, https://arxiv.org/abs/1509.06461
            states = torch.cat([batch.s_tm1.mT, s_t], dim=2)  # [S, O, 2B]
            q = self._backprop.values(self.online, states, keep=True)  # [S, A, 2B]
            q_tm1, best = q[..., :size], q[..., size:].max(1, keepdim=True).indices
            v_t = q_t.gather(1, best).squeeze(1)  # [S, B]
        else:
            s_tm1 = batch.s_tm1.mT.contiguous()  # [S, O, B]
            q_tm1 = self._backprop.values(self.online, s_tm1, keep=True)
            v_t = q_t.amax(1)
        v_t.addcmul_(batch.terminal_t, v_t, value=-1.0)  # nothing comes after the end
        y_tm1 = torch.add(batch.r_t, v_t, alpha=params.gamma)  # [S, B]
        a_tm1 = batch.a_tm1.mT  # [S, 1, B]
        error = q_tm1.gather(1, a_tm1).squeeze(1).sub_(y_tm1)  # [S, B]
        if params.loss == "huber":
            slope = error.clamp(-1.0, 1.0)  # [S, B] derivative of the loss by q_tm1
            losses = torch.sub(error, slope, alpha=0.5).mul_(slope).mean(1)  # [S]
        else:
            slope = 2.0 * error
            losses = error.square().mean(1)
        slopes = torch.zeros_like(q_t).scatter_(1, a_tm1, slope.div_(size).unsqueeze(1))
        self._backprop.gradient(slopes, out=self._gradient)
        # Each agent's gradient, scaled down to its own norm limit, as clip_grad_norm_ does it.
        self._gradient.renorm_(2, 0, params.max_grad_norm)
        self._adam_step()
        # Summed where it lies: reading it each time would make a device wait for the host.
        self.loss_sum += losses
        self.updates += 1
        if self.updates % _UPDATES_PER_SWEEP == 0:
            for moment in (self._moments["exp_avg"], self._moments["exp_avg_sq"]):
                moment.copy_(F.hardshrink(moment, _NEGLIGIBLE))

    def update_target(self) -> None:
        """Move each target network towards its online network, by tau."""
        self.target.flat.lerp_(self.online.flat, self._params.tau)

    def _adam_step(self) -> None:
        """Do what torch.optim.Adam(fused=True) does in a step.

        That class spends longer on its own affairs than on the arithmetic of small networks, up to
        a fifth of an update; a test holds this to the same bits.
        """
        self._moments["step"] += 1
        torch._fused_adam_(
            [self.online.flat],
            [self._gradient],
            [self._moments["exp_avg"]],
            [self._moments["exp_avg_sq"]],
            [],
            [self._moments["step"]],
            lr=self._params.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that learning has changed, except `loss_sum`."""
        return {
            "online": self.online.flat.clone(),
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
