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

from worker.trainers.dqn.backprop import Backprop
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.replay import Batches

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
        scaled = params.normalize != "none"
        self.online = StackedNetwork(sizes, stack, device, scaled=scaled)
        self.target = StackedNetwork(sizes, stack, device)
        self.online.initialize(generators)
        self.target.flat.copy_(self.online.flat)
        self._backprop = Backprop(
            sizes,
            stack,
            params.batch_size,
            self._device,
            params.precision,
            next_states=params.batch_size if params.double_q else 0,
            target_states=params.batch_size * params.batches_together,
        )
        self._gradient = torch.zeros_like(self.online.flat)  # [S, P]
        self.moments = {  # Adam's, by the names that it has for them
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(self.online.flat),
            "exp_avg_sq": torch.zeros_like(self.online.flat),
        }
        self.updates = 0
        self.loss_sum = torch.zeros(stack, device=device)  # [S] since the owner last zeroed it

    def act(self, observations: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the greedy actions [S] for `observations` [S, O]."""
        return self.online.greedy(observations[:, None]).squeeze(1)

    def update(self, batches: Batches) -> None:
        """Take K gradient steps, each on one batch of every agent's own.

        The target network stands still meanwhile, so all batches pass through it at once.
        """
        params = self._params
        if self.online.scaling is not None:
            states = self.online.scaling(batches.states.transpose(0, 1), inputs=3).transpose(0, 1)
            batches = batches._replace(states=states)
        # Products of views into the batches are slow, so the states are copied.
        states = batches.states.transpose(2, 3)  # [K, S, O, 2, B]
        states = states.flatten(3) if params.double_q else states[:, :, :, 0].contiguous()
        y_tm1, a_tm1 = self._targets(batches), batches.a_tm1
        errors = [self._gradient_step(*each) for each in zip(states, y_tm1, a_tm1, strict=True)]
        error = torch.cat(errors, dim=1)  # [S, K, B]
        # Summed where it lies: reading it each time would make a device wait for the host.
        self.loss_sum.add_(self._losses(error).sum((1, 2)), alpha=1.0 / params.batch_size)

    def _targets(self, batches: Batches) -> Tensor:
        """Return what each action taken should have been worth.

        That is `[K, S, 1, B]`, or `[K, S, A, B]` where the next action is still to be picked.
        """
        s_t = batches.states[:, :, 1].permute(1, 2, 0, 3)  # [S, O, K, B]
        q_t = self._backprop.values(self.target, s_t.flatten(2))  # [S, A, K·B]
        q_t = q_t.view(*q_t.shape[:2], *s_t.shape[2:]).permute(2, 0, 1, 3)  # [K, S, A, B]
        if not self._params.double_q:
            q_t = q_t.amax(2, keepdim=True)
        # Nothing comes after the end.
        v_t = torch.addcmul(q_t, batches.terminal_t, q_t, value=-1.0)
        return torch.add(batches.r_t, v_t, alpha=self._params.gamma)

    def _gradient_step(self, states: Tensor, y_tm1: Tensor, a_tm1: Tensor) -> Tensor:
        """Take one step of each agent, as far as its own gradient allows.

        Args:
            states: Before the action, and with `double_q` after it, `[S, O, B or 2B]`.
            y_tm1: One of `_targets`, `[S, 1 or A, B]`.
            a_tm1: Actions taken, `[S, 1, B]`.

        Returns:
            The temporal-difference errors `[S, 1, B]`.
        """
        params = self._params
        size = params.batch_size
        q = self._backprop.values(self.online, states, keep=True)  # [S, A, B or 2B]
        q_tm1 = q[..., :size]
        if params.double_q:
            # van Hasselt et al., 2016, https://arxiv.org/abs/1509.06461
            y_tm1 = y_tm1.gather(1, q[..., size:].max(1, keepdim=True).indices)
        error = q_tm1.gather(1, a_tm1).sub_(y_tm1)  # [S, 1, B]
        # The derivative of the mean loss by the values of the actions taken.
        slope = error.clamp(-1.0, 1.0) if params.loss == "huber" else 2.0 * error
        slopes = torch.zeros_like(q_tm1).scatter_(1, a_tm1, slope.div_(size))
        self._backprop.gradient(slopes, out=self._gradient)
        # Each agent's gradient, scaled down to its own norm limit, as clip_grad_norm_ does it.
        self._gradient.renorm_(2, 0, params.max_grad_norm)
        self._adam_step()
        self.updates += 1
        if self.updates % _UPDATES_PER_SWEEP == 0:
            for moment in (self.moments["exp_avg"], self.moments["exp_avg_sq"]):
                moment.copy_(F.hardshrink(moment, _NEGLIGIBLE))
        return error

    def _losses(self, error: Tensor) -> Tensor:
        """Return what each of `error` costs."""
        if self._params.loss == "mse":
            return error.square()
        slope = error.clamp(-1.0, 1.0)
        return torch.sub(error, slope, alpha=0.5).mul_(slope)

    def update_target(self) -> None:
        """Move each target network towards its online network, by tau."""
        self.target.flat.lerp_(self.online.flat, self._params.tau)

    def _adam_step(self) -> None:
        """Do what torch.optim.Adam(fused=True) does in a step.

        That class spends longer on its own affairs than on the arithmetic of small networks, up to
        a fifth of an update; a test holds this to the same bits.
        """
        self.moments["step"] += 1
        torch._fused_adam_(
            [self.online.flat],
            [self._gradient],
            [self.moments["exp_avg"]],
            [self.moments["exp_avg_sq"]],
            [],
            [self.moments["step"]],
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
        scaling = {} if self.online.scaling is None else self.online.scaling.state()
        return {
            **{f"scaling.{name}": x for name, x in scaling.items()},
            "online": self.online.flat.clone(),
            "target": self.target.flat.clone(),
            "updates": torch.tensor(self.updates),
            **{f"adam.{name}": moment.clone() for name, moment in self.moments.items()},
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Become the agents that `state` was taken from."""
        self.online.flat.copy_(state["online"])
        self.target.flat.copy_(state["target"])
        self.updates = int(state["updates"])
        if self.online.scaling is not None:
            self.online.scaling.load_state(
                {name: state[f"scaling.{name}"] for name in ("mean", "factor")}
            )
        for name, moment in self.moments.items():
            moment.copy_(state[f"adam.{name}"])
