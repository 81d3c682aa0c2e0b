"""Gymnasium's CartPole, Acrobot and MountainCar as machine code, to the bit.

The source is gymnasium.envs.classic_control: the same operations, in float64, in the same order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from worker.trainers.dqn.compiled.products import F32, exact

F64 = NDArray[np.float64]

CARTPOLE, ACROBOT, MOUNTAIN_CAR = range(3)
NUMBERS = {"CartPole": CARTPOLE, "Acrobot": ACROBOT, "MountainCar": MOUNTAIN_CAR}
# An Acrobot squares by a power with this exponent. It is an argument everywhere, because of a 2
# that it can see a compiler makes a product, whose last bit is now and then another.
TWO = 2.0

_ANGLE, _EDGE = 12 * 2 * math.pi / 360, 2.4
_MASS = 0.1 + 1.0  # of pole and cart
_POLE = 0.1 * 0.5  # the pole's mass times half its length


@exact
def step_cartpole(state: F64, action: int) -> tuple[float, bool]:
    """`state` [4]: position and velocity, angle and angular velocity."""
    x, x_dot, theta, theta_dot = state[0], state[1], state[2], state[3]
    force = 10.0 if action == 1 else -10.0
    cos, sin = math.cos(theta), math.sin(theta)
    push = (force + _POLE * (theta_dot * theta_dot) * sin) / _MASS
    theta_acc = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * (cos * cos) / _MASS))
    x_acc = push - _POLE * theta_acc * cos / _MASS
    state[0] = x = x + 0.02 * x_dot
    state[1] = x_dot + 0.02 * x_acc
    state[2] = theta = theta + 0.02 * theta_dot
    state[3] = theta_dot + 0.02 * theta_acc
    return 1.0, x < -_EDGE or x > _EDGE or theta < -_ANGLE or theta > _ANGLE


@exact
def _acrobot_slope(y: F64, torque: float, two: float, out: F64) -> None:
    """The derivative by time of both angles and both angular velocities."""
    cos2, sin2 = math.cos(y[1]), math.sin(y[1])
    d1 = 0.25 + (1.25 + cos2) + 1.0 + 1.0
    d2 = 0.25 + 0.5 * cos2 + 1.0
    phi2 = 0.5 * 9.8 * math.cos(y[0] + y[1] - math.pi / 2.0)
    phi1 = (
        -0.5 * math.pow(y[3], two) * sin2
        - 1.0 * y[3] * y[2] * sin2
        + 1.5 * 9.8 * math.cos(y[0] - math.pi / 2)
        + phi2
    )
    acc2 = (torque + d2 / d1 * phi1 - 0.5 * math.pow(y[2], two) * sin2 - phi2) / (
        0.25 + 1.0 - math.pow(d2, two) / d1
    )
    out[0], out[1], out[2], out[3] = y[2], y[3], -(d2 * acc2 + phi1) / d1, acc2


@exact
def _wrapped(angle: float) -> float:
    """Between -π and π."""
    while angle > math.pi:
        angle = angle - 2 * math.pi
    while angle < -math.pi:
        angle = angle + 2 * math.pi
    return angle


@exact
def step_acrobot(state: F64, action: int, two: float) -> tuple[float, bool]:
    """`state` [4]: both angles and both angular velocities."""
    torque = action - 1.0
    k = np.empty((4, 4))
    y = np.empty(4)
    _acrobot_slope(state, torque, two, k[0])
    for n in range(1, 4):
        for i in range(4):
            y[i] = state[i] + (0.2 if n == 3 else 0.1) * k[n - 1, i]
        _acrobot_slope(y, torque, two, k[n])
    for i in range(4):
        state[i] = state[i] + 0.2 / 6.0 * (k[0, i] + 2 * k[1, i] + 2 * k[2, i] + k[3, i])
    state[0], state[1] = _wrapped(state[0]), _wrapped(state[1])
    state[2] = min(max(state[2], -4 * math.pi), 4 * math.pi)
    state[3] = min(max(state[3], -9 * math.pi), 9 * math.pi)
    terminated = -math.cos(state[0]) - math.cos(state[1] + state[0]) > 1.0
    return 0.0 if terminated else -1.0, terminated


@exact
def step_mountain_car(state: F64, action: int) -> tuple[float, bool]:
    """`state` [2]: position and velocity."""
    x, v = state[0], state[1]
    v += (action - 1) * 0.001 + math.cos(3 * x) * (-0.0025)
    v = min(max(v, -0.07), 0.07)
    x += v
    x = min(max(x, -1.2), 0.6)
    if x == -1.2 and v < 0:
        v = 0.0
    state[0], state[1] = x, v
    return -1.0, x >= 0.5 and v >= 0.0


@exact
def step(env: int, state: F64, action: int, two: float) -> tuple[float, bool]:
    """Move `state` on by one step; the reward, and whether the episode terminated."""
    if env == CARTPOLE:
        return step_cartpole(state, action)
    if env == ACROBOT:
        return step_acrobot(state, action, two)
    return step_mountain_car(state, action)


@exact
def observe(env: int, state: F64, out: F32) -> None:
    """Write what an agent sees of `state`."""
    if env == ACROBOT:
        out[0], out[1] = math.cos(state[0]), math.sin(state[0])
        out[2], out[3] = math.cos(state[1]), math.sin(state[1])
        out[4], out[5] = state[2], state[3]
    else:
        for i in range(len(out)):
            out[i] = state[i]
