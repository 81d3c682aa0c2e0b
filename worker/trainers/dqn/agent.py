"""DQN for the S agents of a trial.

They share their hyperparameters. `worker.trainers.dqn.reference` has the algorithm for one agent;
`worker.trainers.dqn.learning` has its gradient steps for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation gives it
from torch import Tensor

from worker.trainers.dqn.learning import Learning, Stack, make_stack
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.randomness import Purpose, streams
from worker.trainers.dqn.replay import Batches, ReplayMemory
from worker.trainers.protocol import Job

# A unit that no longer fires leaves Adam's averages to decay into the subnormal numbers and to stay
# there (the smallest one times 0.9 rounds to itself), where every step takes several times as long.
# So what is below this is dropped now and then; even over Adam's eps it moves no parameter.
_NEGLIGIBLE = 1e-30
_UPDATES_PER_SWEEP = 128  # it takes 175 updates to decay from there to the subnormals


class Agent:
    """S agents that learn by `update`.

    Args:
        params: Their hyperparameters.
        observation_size: O.
        actions: A.
        generators: One for each agent, which draws its first networks.
        device: Where they are.
        stack: Where they learn, as its rows `at`, beside the agents of other trials; if it is None,
            they have one of their own.
        at: Which rows.
    """

    def __init__(
        self,
        *,
        params: Params,
        observation_size: int,
        actions: int,
        generators: Sequence[np.random.Generator],
        device: str | torch.device = "cpu",
        stack: Stack | None = None,
        at: slice = slice(None),
    ) -> None:
        self.params = params
        self.at = at
        if stack is None:
            self._stack = make_stack(
                (observation_size, *params.net_arch, actions),
                len(generators),
                device,
                scaled=params.normalize != "none",
            )
        else:
            self._stack = stack.rows(at)
        self.online, self.target = self._stack.online, self._stack.target
        self.online.initialize(generators)
        self.target.flat.copy_(self.online.flat)
        self._stack.gamma.fill_(params.gamma)
        self.loss_sum = self._stack.loss_sum.zero_()  # [S] since the owner last zeroed it
        self.moments = {  # Adam's, by the names that it has for them
            "step": torch.zeros((), device=device),
            "exp_avg": self._stack.exp_avg.zero_(),
            "exp_avg_sq": self._stack.exp_avg_sq.zero_(),
        }
        self.updates = 0

    def update(self, batches: Batches) -> None:
        """Take K gradient steps, each on one batch of every agent's own."""
        self._learning.update(batches, [self])
        self.took(len(batches.states))

    @cached_property
    def _learning(self) -> Learning:
        """What these agents alone learn by."""
        return Learning(self.params, self._stack)

    def update_target(self) -> None:
        """Move each target network towards its online network, by tau."""
        self.target.flat.lerp_(self.online.flat, self.params.tau)

    def adam_step(self) -> None:
        """Take a step along the stack's gradient: what torch.optim.Adam(fused=True) does in one.

        That class spends longer on its own affairs than on the arithmetic of small networks, up to
        a fifth of an update; a test holds this to the same bits.
        """
        self.moments["step"] += 1
        torch._fused_adam_(
            [self.online.flat],
            [self._stack.gradient],
            [self.moments["exp_avg"]],
            [self.moments["exp_avg_sq"]],
            [],
            [self.moments["step"]],
            lr=self.params.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def took(self, updates: int) -> None:
        """Count gradient steps that were taken."""
        sweeps = self.updates // _UPDATES_PER_SWEEP
        self.updates += updates
        if self.updates // _UPDATES_PER_SWEEP > sweeps:
            for name in ("exp_avg", "exp_avg_sq"):
                self.moments[name].copy_(F.hardshrink(self.moments[name], _NEGLIGIBLE))

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


def make_agents(
    job: Job,
    params: Params,
    *,
    observation_size: int,
    actions: int,
    stack: Stack | None = None,
    at: slice = slice(None),
    storage: Tensor | None = None,
) -> tuple[Agent, ReplayMemory]:
    """Make the agents of a job, and the memory of what they experience.

    Args:
        job: What to train.
        params: Its hyperparameters.
        observation_size: O.
        actions: A.
        stack: See `Agent`.
        at: See `Agent`.
        storage: See `ReplayMemory`.
    """
    agent = Agent(
        params=params,
        observation_size=observation_size,
        actions=actions,
        generators=[np.random.default_rng(s) for s in streams(job.seeds, 0, Purpose.NETWORK)],
        device=job.device,
        stack=stack,
        at=at,
    )
    replay = ReplayMemory(
        stack=len(job.seeds),
        capacity=min(params.buffer_size, job.train_steps),
        observation_size=observation_size,
        device=job.device,
        storage=storage,
    )
    return agent, replay
