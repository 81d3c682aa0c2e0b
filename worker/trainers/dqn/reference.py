"""DQN as its papers have it: one agent in one environment, read top to bottom.

Mnih et al. (2015), https://doi.org/10.1038/nature14236, learn action values by Q-learning, on
transitions drawn from a replay memory, towards targets of a network that is updated now and then.
Double Q-learning is van Hasselt et al. (2016), https://arxiv.org/abs/1509.06461.

Workers train with faster forms of it: many agents as one tensor program, as machine code, or on a
GPU. Tests hold each of them to what this one computes from the same random draws.

`python -m worker.trainers.dqn.reference` trains an agent on CartPole.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Those of `worker.trainers.dqn.params` that are of the algorithm, at values for CartPole."""

    learning_rate: float = 1e-3  # Adam's step size
    gamma: float = 0.99  # discount per environment step
    batch_size: int = 64  # transitions in a gradient step, sampled with replacement
    buffer_size: int = 50_000  # transitions that the replay memory holds before it forgets
    learning_starts: int = 1_000  # environment steps before the first update, all of them random
    train_freq: int = 4  # environment steps between rounds of updates
    gradient_steps: int = 2  # updates in a round; -1: as many as environment steps since the last
    target_update_interval: int = 250  # environment steps between updates of the target network
    tau: float = 1.0  # share of the online network in such an update; 1 copies it
    exploration_initial_eps: float = 1.0  # probability of a random action at the start
    exploration_fraction: float = 0.2  # share of training over which it falls linearly
    exploration_final_eps: float = 0.05  # probability of a random action after that
    max_grad_norm: float = 10.0  # longer gradients are scaled down to this norm
    net_arch: tuple[int, ...] = (64, 64)  # widths of the hidden layers
    loss: Literal["huber", "mse"] = "huber"  # of the temporal-difference error
    double_q: bool = True  # the online network picks the next action, the target network values it


class Transition(NamedTuple):
    """One step of the environment."""

    s_tm1: NDArray[Any]  # [O]
    a_tm1: int
    r_t: float
    s_t: NDArray[Any]  # [O]
    terminal_t: bool  # the episode terminated; where it was only truncated, the state has a value


class Batch(NamedTuple):
    """B transitions."""

    s_tm1: Tensor  # [B, O]
    a_tm1: Tensor  # [B] int64
    r_t: Tensor  # [B]
    s_t: Tensor  # [B, O]
    terminal_t: Tensor  # [B] 1.0 or 0.0


def make_network(sizes: Sequence[int], rng: np.random.Generator) -> nn.Sequential:
    """A multilayer perceptron of widths `sizes`, with the first parameters of torch.nn.Linear."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        bound = 1.0 / math.sqrt(fan_in)
        with torch.no_grad():
            for parameter in (linear.weight, linear.bias):
                drawn = rng.uniform(-bound, bound, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(drawn))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Dqn:
    """An agent: it acts, remembers what came of it, and learns from what it remembers."""

    def __init__(
        self, hp: Hyperparameters, observation_size: int, actions: int, rng: np.random.Generator
    ) -> None:
        self.hp, self.actions, self.rng = hp, actions, rng
        self.online = make_network((observation_size, *hp.net_arch, actions), rng)
        self.target = copy.deepcopy(self.online)
        self.adam = torch.optim.Adam(self.online.parameters(), lr=hp.learning_rate)
        self.memory: list[Transition] = []
        self._oldest = 0  # in a full memory

    def act(self, s_t: NDArray[Any], epsilon: float) -> int:
        """Return a random action with probability `epsilon`, else the one of highest value."""
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.actions))
        with torch.no_grad():
            q_t = self.online(torch.as_tensor(s_t, dtype=torch.float32))  # [A]
        return int(q_t.argmax())

    def remember(self, transition: Transition) -> None:
        """Add it to the memory, in place of the oldest one when that is full."""
        if len(self.memory) < self.hp.buffer_size:
            self.memory.append(transition)
        else:
            self.memory[self._oldest] = transition
            self._oldest = (self._oldest + 1) % self.hp.buffer_size

    def sample(self) -> Batch:
        """Draw a batch from the memory, uniformly and with replacement."""
        rows = self.rng.integers(len(self.memory), size=self.hp.batch_size)  # [B]
        s_tm1, a_tm1, r_t, s_t, terminal_t = zip(*(self.memory[i] for i in rows), strict=True)
        return Batch(
            torch.tensor(np.array(s_tm1), dtype=torch.float32),
            torch.tensor(a_tm1),
            torch.tensor(r_t, dtype=torch.float32),
            torch.tensor(np.array(s_t), dtype=torch.float32),
            torch.tensor(terminal_t, dtype=torch.float32),
        )

    def update(self, batch: Batch) -> tuple[float, float]:
        """Take a gradient step; return the loss, and the gradient's norm before it is clipped."""
        hp = self.hp
        with torch.no_grad():
            q_t = self.target(batch.s_t)  # [B, A]
            picking = self.online(batch.s_t) if hp.double_q else q_t  # [B, A]
            a_t = picking.argmax(1, keepdim=True)  # [B, 1]
            v_t = q_t.gather(1, a_t).squeeze(1)  # [B]
            y_tm1 = batch.r_t + hp.gamma * (1.0 - batch.terminal_t) * v_t  # [B]
        q_tm1 = self.online(batch.s_tm1).gather(1, batch.a_tm1.unsqueeze(1)).squeeze(1)  # [B]
        cost = nn.functional.smooth_l1_loss if hp.loss == "huber" else nn.functional.mse_loss
        loss = cost(q_tm1, y_tm1)
        self.adam.zero_grad()
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.online.parameters(), hp.max_grad_norm)
        self.adam.step()
        return loss.item(), norm.item()

    def update_target(self) -> None:
        """Move the target network towards the online network, by tau."""
        with torch.no_grad():
            for old, new in zip(self.target.parameters(), self.online.parameters(), strict=True):
                old.lerp_(new, self.hp.tau)


def epsilon_at(hp: Hyperparameters, step: int, steps: int) -> float:
    """Return the probability of a random action in step `step`, from 0, of a training's `steps`."""
    if step < hp.learning_starts:
        return 1.0
    progress = step / steps
    if progress >= hp.exploration_fraction:
        return hp.exploration_final_eps
    fall = hp.exploration_initial_eps - hp.exploration_final_eps
    return hp.exploration_initial_eps - fall * progress / hp.exploration_fraction


def train(env: gymnasium.Env[Any, Any], dqn: Dqn, *, steps: int, seed: int) -> Iterator[float]:
    """Train the agent for so many steps of `env`; yield the return of each episode as it ends."""
    hp, episode_return = dqn.hp, 0.0
    s_tm1, _ = env.reset(seed=seed)
    for step in range(steps):
        a_tm1 = dqn.act(s_tm1, epsilon_at(hp, step, steps))
        s_t, r_t, terminated, truncated, _ = env.step(a_tm1)
        dqn.remember(Transition(s_tm1, a_tm1, float(r_t), s_t, terminated))
        episode_return += float(r_t)
        s_tm1 = s_t
        if terminated or truncated:
            yield episode_return
            episode_return = 0.0
            s_tm1, _ = env.reset()
        done = step + 1
        # The order within a step is Stable-Baselines3's: the target network first.
        if done % hp.target_update_interval == 0:
            dqn.update_target()
        if done % hp.train_freq == 0 and done > hp.learning_starts:
            for _ in range(hp.train_freq if hp.gradient_steps < 0 else hp.gradient_steps):
                dqn.update(dqn.sample())


if __name__ == "__main__":
    agent = Dqn(Hyperparameters(), observation_size=4, actions=2, rng=np.random.default_rng(0))
    returns = train(gymnasium.make("CartPole-v1"), agent, steps=20_000, seed=0)
    for number, each in enumerate(returns, start=1):
        print(f"episode {number}: {each:g}")
