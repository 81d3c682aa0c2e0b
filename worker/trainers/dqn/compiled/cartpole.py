"""CartPole with one agent in it as machine code: acting, the environment, the memory, learning.

The environment is Gymnasium's, to the bit: `gymnasium.envs.classic_control.cartpole`, in float64
and in the same order of operations.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from worker.trainers.dqn.compiled.learning import (
    F32,
    I64,
    Learner,
    Rule,
    Scratch,
    fast,
    follow,
    greedy,
    learn,
)

F64 = NDArray[np.float64]

_GRAVITY, _FORCE, _SECONDS = 9.8, 10.0, 0.02
_MASS_POLE, _LENGTH = 0.1, 0.5
_MASS = _MASS_POLE + 1.0
_POLE = _MASS_POLE * _LENGTH
_ANGLE, _EDGE = 12 * 2 * math.pi / 360, 2.4

# What `clock` counts.
STEP, EPISODE_STEP, EPISODE, TO_LEARN = 0, 1, 2, 3


class Course(NamedTuple):
    """One agent's segment: what was drawn for it, and what came of it."""

    train_freq: int
    updates_per_round: int
    learning_starts: int
    target_update_interval: int
    max_episode_steps: int
    first: int  # steps that the agent had done before the segment
    explore: NDArray[np.bool_]  # [T] whether the action is random
    random_action: I64  # [T]
    starts: F64  # [T + 1, 4] states that episodes begin in
    state: F64  # [4] now
    ended: NDArray[np.bool_]  # [T] whether an episode ended with the step
    clock: I64  # [4] steps done in the segment and in the episode, episodes begun, updates due


# Here each operation is rounded as written. Said outright, because a function that says nothing is
# compiled as its caller is.
@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def step(state: F64, action: int) -> bool:
    """Move `state` [4] on by one step; return whether the episode terminated."""
    x, x_dot, theta, theta_dot = state[0], state[1], state[2], state[3]
    force = _FORCE if action == 1 else -_FORCE
    cos, sin = math.cos(theta), math.sin(theta)
    push = (force + _POLE * (theta_dot * theta_dot) * sin) / _MASS
    theta_acc = (_GRAVITY * sin - cos * push) / (
        _LENGTH * (4.0 / 3.0 - _MASS_POLE * (cos * cos) / _MASS)
    )
    x_acc = push - _POLE * theta_acc * cos / _MASS
    state[0] = x = x + _SECONDS * x_dot
    state[1] = x_dot + _SECONDS * x_acc
    state[2] = theta = theta + _SECONDS * theta_dot
    state[3] = theta_dot + _SECONDS * theta_acc
    terminated: bool = x < -_EDGE or x > _EDGE or theta < -_ANGLE or theta > _ANGLE
    return terminated


@fast
def train(
    rule: Rule,
    learner: Learner,
    scratch: Scratch,
    course: Course,
    until: int,
    words: NDArray[np.uint32],
) -> None:
    """Go on with the segment up to step `until`, or as far as `words` [G, B] suffice for."""
    clock, state, used = course.clock, course.state, 0
    observation, room = np.empty(4, np.float32), np.empty((2, rule.sizes.max()), np.float32)
    while True:
        while clock[TO_LEARN] > 0:
            if used == len(words):
                return
            learn(rule, learner, scratch, words[used])
            used += 1
            clock[TO_LEARN] -= 1
        t = clock[STEP]
        if t == until:
            return
        if clock[EPISODE_STEP] == 0:
            state[:] = course.starts[clock[EPISODE]]
            clock[EPISODE] += 1
        row = learner.rows[learner.held[0]]
        for i in range(4):
            row[i] = observation[i] = np.float32(state[i])
        if course.explore[t]:
            action = course.random_action[t]
        else:
            action = greedy(rule.sizes, learner.online, observation, room)
        terminated = step(state, action)
        for i in range(4):
            row[4 + i] = np.float32(state[i])
        row[8], row[9], row[10] = np.float32(action), np.float32(1), np.float32(terminated)
        learner.held[0] = (learner.held[0] + 1) % len(learner.rows)
        learner.held[1] = min(learner.held[1] + 1, len(learner.rows))
        clock[EPISODE_STEP] += 1
        course.ended[t] = terminated or clock[EPISODE_STEP] >= course.max_episode_steps
        if course.ended[t]:
            clock[EPISODE_STEP] = 0
        clock[STEP] += 1
        done = course.first + clock[STEP]
        # The order within a step is that of `worker.trainers.dqn.stepped`.
        if done % course.target_update_interval == 0:
            follow(rule, learner)
        if done % course.train_freq == 0 and done > course.learning_starts:
            clock[TO_LEARN] = course.updates_per_round


@fast
def play(sizes: I64, network: F32, starts: F64, limit: int, lengths: I64) -> None:
    """Play a greedy episode from each of `starts` [E, 4], to the end; write how long they took."""
    observation, room = np.empty(4, np.float32), np.empty((2, sizes.max()), np.float32)
    state = np.empty(4)
    for episode in range(len(starts)):
        state[:] = starts[episode]
        length, terminated = 0, False
        while not terminated and length < limit:
            for i in range(4):
                observation[i] = np.float32(state[i])
            terminated = step(state, greedy(sizes, network, observation, room))
            length += 1
        lengths[episode] = length
