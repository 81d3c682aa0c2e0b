"""A segment of one agent as machine code: acting, the environment, the memory, learning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.trainers.dqn.compiled.environments import F64, observe, step
from worker.trainers.dqn.compiled.learning import Learner, Rule, Scratch, follow, learn
from worker.trainers.dqn.compiled.passes import I64, greedy
from worker.trainers.dqn.compiled.products import F32, exact

# What `clock` counts.
STEP, EPISODE_STEP, EPISODE, TO_LEARN = 0, 1, 2, 3


class Course(NamedTuple):
    """One agent's segment: what was drawn for it, and what came of it."""

    env: int  # in `environments`
    two: float  # see `environments`
    train_freq: int
    updates_per_round: int
    learning_starts: int
    target_update_interval: int
    max_episode_steps: int
    first: int  # steps that the agent had done before the segment
    explore: NDArray[np.bool_]  # [T] whether the action is random
    random_action: I64  # [T]
    starts: F64  # [T + 1, N] states that episodes begin in
    first_seen: F32  # [T + 1, O] what is seen of them
    state: F64  # [N] now
    seen: F32  # [O] of it
    rewards: F64  # [T]
    ended: NDArray[np.bool_]  # [T] whether an episode ended with the step
    clock: I64  # [4] steps done in the segment and in the episode, episodes begun, updates due


@exact
def train(
    rule: Rule,
    learner: Learner,
    scratch: Scratch,
    course: Course,
    until: int,
    words: NDArray[np.uint32],
) -> None:
    """Go on with the segment up to step `until`, or as far as `words` [G, B] suffice for."""
    clock, state, seen, used = course.clock, course.state, course.seen, 0
    room = np.empty((2, rule.sizes.max()), np.float32)
    inputs = len(seen)
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
            seen[:] = course.first_seen[clock[EPISODE]]
            clock[EPISODE] += 1
        row = learner.rows[learner.held[0]]
        for i in range(inputs):
            row[i] = seen[i]
        if course.explore[t]:
            action = course.random_action[t]
        else:
            action = greedy(rule.sizes, learner.online, seen, room)
        reward, terminated = step(course.env, state, action, course.two)
        observe(course.env, state, seen)
        for i in range(inputs):
            row[inputs + i] = seen[i]
        row[2 * inputs] = np.float32(action)
        row[2 * inputs + 1] = np.float32(reward)
        row[2 * inputs + 2] = np.float32(terminated)
        course.rewards[t] = reward
        learner.held[0] = (learner.held[0] + 1) % len(learner.rows)
        learner.held[1] = min(learner.held[1] + 1, len(learner.rows))
        clock[EPISODE_STEP] += 1
        course.ended[t] = terminated or clock[EPISODE_STEP] >= course.max_episode_steps
        if course.ended[t]:
            clock[EPISODE_STEP] = 0
        clock[STEP] += 1
        done = course.first + clock[STEP]
        # The order within a step is that of `worker.trainers.dqn.stepping`.
        if done % course.target_update_interval == 0:
            follow(rule, learner)
        if done % course.train_freq == 0 and done > course.learning_starts:
            clock[TO_LEARN] = course.updates_per_round


@exact
def play(
    env: int,
    two: float,
    sizes: I64,
    network: F32,
    starts: F64,
    first_seen: F32,
    limit: int,
    returns: F64,
    lengths: I64,
) -> None:
    """Play a greedy episode from each of `starts` [E, N], to the end; write what they came to."""
    room = np.empty((2, sizes.max()), np.float32)
    state, seen = np.empty(starts.shape[1]), np.empty(first_seen.shape[1], np.float32)
    for episode in range(len(starts)):
        state[:] = starts[episode]
        seen[:] = first_seen[episode]
        length, total, terminated = 0, 0.0, False
        while not terminated and length < limit:
            reward, terminated = step(env, state, greedy(sizes, network, seen, room), two)
            observe(env, state, seen)
            total += reward
            length += 1
        returns[episode], lengths[episode] = total, length
