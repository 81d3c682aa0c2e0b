"""What tells one DQN from another. Names and meanings are those of Stable-Baselines3's DQN.

https://stable-baselines3.readthedocs.io/en/master/modules/dqn.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Observations in a pass through the target network; more of them leave the processor's cache.
_COLUMNS = 512


@dataclass(frozen=True, kw_only=True)
class Params:
    """The hyperparameters of every agent in a trial; agents differ only in their seed."""

    learning_rate: float  # Adam's step size
    gamma: float  # discount per environment step
    batch_size: int  # transitions in a gradient step, sampled with replacement
    buffer_size: int  # transitions the replay memory of an agent holds before it forgets
    learning_starts: int  # environment steps before the first update, with random actions
    train_freq: int  # environment steps between rounds of updates
    gradient_steps: int  # updates in a round; -1: as many as environment steps since the last
    target_update_interval: int  # environment steps between updates of the target network
    tau: float  # share of the online network in such an update; 1 copies it
    exploration_initial_eps: float  # probability of a random action at the start
    exploration_fraction: float  # share of training over which it falls linearly
    exploration_final_eps: float  # probability of a random action after that
    max_grad_norm: float  # longest gradient of an agent, longer ones are scaled down
    net_arch: tuple[int, ...]  # widths of the hidden layers
    loss: Literal["huber", "mse"]  # what the temporal-difference error costs; huber's knee is at 1
    double_q: bool  # the online network picks the next action, the target network values it
    precision: Literal["fp32", "bf16"] = "fp32"  # of the matrix products of an update

    @property
    def updates_per_round(self) -> int:
        """Gradient steps in each round."""
        return self.train_freq if self.gradient_steps < 0 else self.gradient_steps

    @property
    def batches_together(self) -> int:
        """How many batches of a round pass through the target network at once.

        They divide the round evenly, so that all passes have one shape.
        """
        most = max(1, _COLUMNS // self.batch_size)
        return max(k for k in range(1, most + 1) if self.updates_per_round % k == 0)

    def epsilon(self, step: int, train_steps: int) -> float:
        """Return the probability of a random action after `step` of `train_steps` steps.

        Linear over the first `exploration_fraction` of training, then flat
        (stable_baselines3.common.utils.LinearSchedule). Below `learning_starts` every action is
        random, whatever this says.
        """
        start, end = self.exploration_initial_eps, self.exploration_final_eps
        progress = step / train_steps
        if progress >= self.exploration_fraction:
            return end
        return start + progress * (end - start) / self.exploration_fraction
