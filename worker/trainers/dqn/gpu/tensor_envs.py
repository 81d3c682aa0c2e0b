"""Gymnasium's CartPole, Acrobot and MountainCar as tensor code: S of them take a step at once.

The source is gymnasium.envs.classic_control. States are in float64, as there; a device's sines may
round otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class TensorEnv(NamedTuple):
    """One environment."""

    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """From states [S, N] and actions [S] to the next states and which terminated [S]."""
    reward: Callable[[Tensor], Tensor]
    """Of a step, by whether it terminated [S]."""
    observe: Callable[[Tensor], Tensor]
    """What is seen of states: [S, O], in float32."""


def _cartpole(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    x, x_dot, theta, theta_dot = state.unbind(1)
    force = torch.where(action == 1, 10.0, -10.0).to(state.dtype)
    cos, sin = theta.cos(), theta.sin()
    push = (force + 0.1 * 0.5 * theta_dot.square() * sin) / 1.1
    theta_acc = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * cos.square() / 1.1))
    x_acc = push - 0.1 * 0.5 * theta_acc * cos / 1.1
    x, x_dot = x + 0.02 * x_dot, x_dot + 0.02 * x_acc
    theta, theta_dot = theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc
    fallen = (x.abs() > 2.4) | (theta.abs() > 12 * 2 * math.pi / 360)
    return torch.stack([x, x_dot, theta, theta_dot], dim=1), fallen


def _acrobot_slope(y: Tensor, torque: Tensor) -> Tensor:
    one, two, speed1, speed2 = y.unbind(1)
    cos, sin = two.cos(), two.sin()
    d1 = 0.25 + (1.25 + cos) + 1.0 + 1.0
    d2 = 0.25 + 0.5 * cos + 1.0
    phi2 = 0.5 * 9.8 * (one + two - math.pi / 2).cos()
    phi1 = (
        -0.5 * speed2.square() * sin
        - speed2 * speed1 * sin
        + 1.5 * 9.8 * (one - math.pi / 2).cos()
        + phi2
    )
    acc2 = (torque + d2 / d1 * phi1 - 0.5 * speed1.square() * sin - phi2) / (
        1.25 - d2.square() / d1
    )
    return torch.stack([speed1, speed2, -(d2 * acc2 + phi1) / d1, acc2], dim=1)


def _acrobot(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    torque = action.to(state.dtype) - 1.0
    k1 = _acrobot_slope(state, torque)
    k2 = _acrobot_slope(state + 0.1 * k1, torque)
    k3 = _acrobot_slope(state + 0.1 * k2, torque)
    k4 = _acrobot_slope(state + 0.2 * k3, torque)
    after = state + 0.2 / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
    angles, (speed1, speed2) = after[:, :2], after[:, 2:].unbind(1)
    # Into -π … π by whole turns; who is there already keeps its bits.
    turns = 2 * math.pi * ((angles + math.pi) / (2 * math.pi)).floor()
    one, two = torch.where(angles.abs() > math.pi, angles - turns, angles).unbind(1)
    speed1 = speed1.clamp(-4 * math.pi, 4 * math.pi)
    speed2 = speed2.clamp(-9 * math.pi, 9 * math.pi)
    up = -one.cos() - (two + one).cos() > 1.0
    return torch.stack([one, two, speed1, speed2], dim=1), up


def _mountain_car(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    x, v = state.unbind(1)
    v = (v + (action.to(state.dtype) - 1) * 0.001 + (3 * x).cos() * -0.0025).clamp(-0.07, 0.07)
    x = (x + v).clamp(-1.2, 0.6)
    v = torch.where((x == -1.2) & (v < 0), 0.0, v)
    return torch.stack([x, v], dim=1), (x >= 0.5) & (v >= 0)


def _as_it_is(state: Tensor) -> Tensor:
    return state.float()


def _angles(state: Tensor) -> Tensor:
    one, two, *speeds = state.unbind(1)
    return torch.stack([one.cos(), one.sin(), two.cos(), two.sin(), *speeds], dim=1).float()


def _always(reward: float) -> Callable[[Tensor], Tensor]:
    return lambda terminated: torch.full_like(terminated, reward, dtype=torch.float64)


# By the name of `worker.trainers.dqn.builtin_envs.World`.
TENSOR_ENVS = {
    "CartPole": TensorEnv(_cartpole, _always(1.0), _as_it_is),
    "Acrobot": TensorEnv(_acrobot, lambda terminated: terminated.double() - 1.0, _angles),
    "MountainCar": TensorEnv(_mountain_car, _always(-1.0), _as_it_is),
}
