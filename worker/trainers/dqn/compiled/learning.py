"""One agent's gradient steps as machine code: `worker.trainers.dqn.agent`, without PyTorch.

It takes the same words from the same replay memory to the same mathematics; only the roundings
differ. As there, the batch is the last dimension: `[H, B]`.

Arrays are views of what the plain path learns on, so either of them can go on where the other
stopped. Nothing is allocated: `Scratch` is made once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.trainers.dqn.compiled.passes import I64, values
from worker.trainers.dqn.compiled.products import (
    F32,
    NARROW,
    dots,
    exact,
    multiply,
    multiply_where,
    padded,
    transpose,
)
from worker.trainers.dqn.compiled.vectors import LANES

_NEGLIGIBLE = np.float32(1e-30)  # see worker.trainers.dqn.agent
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # Adam's, as there


class Rule(NamedTuple):
    """What all agents of a trial have in common."""

    sizes: I64  # widths of the network: observation, hidden …, actions
    learning_rate: float
    gamma: float
    tau: float
    max_grad_norm: float
    huber: bool  # or mse
    double_q: bool


class Learner(NamedTuple):
    """One agent, as views of what holds it."""

    online: F32  # [P], as `worker.trainers.dqn.network` lays it out
    target: F32  # [P]
    exp_avg: F32  # [P]
    exp_avg_sq: F32  # [P]
    rows: F32  # [C, W] its replay memory, as `worker.trainers.dqn.replay` lays it out
    held: I64  # [2] where the next row goes, and how many rows hold a transition
    mean: F32  # [O] its observations are shifted and scaled by
    factor: F32  # [O]
    updates: I64  # [1] gradient steps taken
    loss_sum: F32  # [1]


class Scratch(NamedTuple):
    """What an update computes on the way."""

    at: I64  # [B] rows of the memory
    s_tm1: F32  # [O, B]
    s_t: F32  # [O, B]
    a_tm1: I64  # [B]
    r_t: F32  # [B]
    terminal_t: F32  # [B]
    next_action: I64  # [B]
    kept: F32  # every layer's results [H, B] of the pass that learns, one after the other
    passed: F32  # the same of the passes that do not
    delta: F32  # [2, H·B] of the widest layer; one is computed from the other
    turned: F32  # a layer's results, transposed
    gradient: F32  # [P]
    ones: F32  # [1, B]
    lanes: F32  # [256]


def make_scratch(sizes: I64, batch_size: int) -> Scratch:
    """Memory for updates of networks of `sizes` on batches of `batch_size`."""
    widths = sizes[1:]
    flat = int((widths * (sizes[:-1] + 1)).sum())
    return Scratch(
        at=np.zeros(batch_size, np.int64),
        s_tm1=_aligned(sizes[0], batch_size),
        s_t=_aligned(sizes[0], batch_size),
        a_tm1=np.zeros(batch_size, np.int64),
        r_t=_aligned(batch_size),
        terminal_t=_aligned(batch_size),
        next_action=np.zeros(batch_size, np.int64),
        # `transpose` reads beyond the end: by rows, and by a part of the last one.
        kept=_aligned(widths.sum() * batch_size + LANES * (batch_size + 1)),
        passed=_aligned(widths.sum() * batch_size),
        delta=_aligned(2, widths.max() * batch_size),
        turned=_aligned(padded(batch_size) * (padded(widths.max()) + LANES)),
        gradient=_aligned(flat),
        ones=np.ones((1, batch_size), np.float32),
        lanes=_aligned(256),
    )


def _aligned(*shape: int) -> F32:
    """Zeros that begin with a line of the processor's cache, which no vector then straddles."""
    line, size = 16, math.prod(shape)  # floats
    room = np.zeros(size + line, np.float32)
    begin = -(room.ctypes.data // room.itemsize) % line
    return room[begin : begin + size].reshape(shape)


@exact
def fetch(learner: Learner, words: NDArray[np.uint32], scratch: Scratch) -> None:
    """Copy the transitions that `words` [B] mean, as `ReplayMemory.rows` does, to `scratch`."""
    size, inputs, rows, at = np.uint64(learner.held[1]), len(learner.mean), learner.rows, scratch.at
    for b in range(len(words)):
        at[b] = np.int64((np.uint64(words[b]) * size) >> np.uint64(32))
    for i in range(inputs):
        mean, factor = learner.mean[i], learner.factor[i]
        before, after = scratch.s_tm1[i], scratch.s_t[i]
        for b in range(len(words)):
            before[b] = (rows[at[b], i] - mean) * factor
            after[b] = (rows[at[b], inputs + i] - mean) * factor
    for b in range(len(words)):
        row = rows[at[b]]
        scratch.a_tm1[b] = np.int64(row[2 * inputs])
        scratch.r_t[b] = row[2 * inputs + 1]
        scratch.terminal_t[b] = row[2 * inputs + 2]


@exact
def choose_next(q: F32, action: I64) -> None:
    """Write the actions [B] of highest value in `q` [A, B] to `action`."""
    for b in range(q.shape[1]):
        best = 0
        for a in range(1, q.shape[0]):
            if q[a, b] > q[best, b]:
                best = a
        action[b] = best


@exact
def slopes(rule: Rule, q_tm1: F32, q_t: F32, scratch: Scratch, out: F32) -> np.float32:
    """Write the derivative of the mean loss by `q_tm1` [A, B] to `out`; return the loss."""
    batch, loss = q_tm1.shape[1], np.float32(0)
    gamma = np.float32(rule.gamma)
    out[:] = 0
    for b in range(batch):
        action = scratch.a_tm1[b]
        value = q_t[scratch.next_action[b], b] * (np.float32(1) - scratch.terminal_t[b])
        error = q_tm1[action, b] - (scratch.r_t[b] + gamma * value)
        if rule.huber:
            slope = min(max(error, np.float32(-1)), np.float32(1))
            loss += (error - np.float32(0.5) * slope) * slope
        else:
            slope = np.float32(2) * error
            loss += error * error
        out[action, b] = slope / np.float32(batch)
    return loss / np.float32(batch)


@exact
def backpropagate(rule: Rule, network: F32, scratch: Scratch) -> None:
    """Write the gradient to `scratch`, of the pass in `scratch.kept`.

    The derivatives by the action values are in `scratch.delta[0]`.
    """
    sizes, gradient, batch = rule.sizes, scratch.gradient, scratch.s_tm1.shape[1]
    end, start, here = len(gradient), sizes[1:].sum() * batch, 0
    for layer in range(len(sizes) - 2, -1, -1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        biases = end - outputs
        at = biases - inputs * outputs
        delta = scratch.delta[here, : outputs * batch].reshape(outputs, batch)
        dots(delta, scratch.ones, gradient[biases:end].reshape(outputs, 1))
        start -= outputs * batch
        if layer == 0:
            below = scratch.s_tm1
        else:
            below = scratch.kept[start - inputs * batch : start].reshape(inputs, batch)
        by_weight = gradient[at:biases].reshape(outputs, inputs)
        if layer == 0 or min(inputs, outputs) < NARROW:
            dots(delta, below, by_weight)
        else:
            width = padded(inputs) + LANES  # rows whose distance is no power of two
            turned = scratch.turned[: padded(batch) * width].reshape(padded(batch), width)
            transpose(below, turned)
            multiply(delta, turned[:batch], by_weight)
        if layer > 0:
            here = 1 - here
            lower = scratch.delta[here, : inputs * batch].reshape(inputs, batch)
            multiply_where(network[at:biases].reshape(outputs, inputs).T, delta, below, lower)
        end = at


@exact
def sum_of_squares(values: F32, lanes: F32) -> float:
    """Of `values` [P], added up in as many `lanes` as a power of two, and these pair by pair."""
    width = len(lanes)
    lanes[:] = 0
    for at in range(0, len(values) - width + 1, width):
        some = values[at : at + width]
        for i in range(width):
            lanes[i] += some[i] * some[i]
    rest = values[len(values) // width * width :]
    for i in range(len(rest)):
        lanes[i] += rest[i] * rest[i]
    while width > 1:
        width //= 2
        for i in range(width):
            lanes[i] += lanes[width + i]
    return lanes[0]


@exact
def adam(rule: Rule, learner: Learner, gradient: F32, lanes: F32) -> None:
    """Take Adam's step, along `gradient` [P] scaled down to the norm limit."""
    norm = math.sqrt(sum_of_squares(gradient, lanes))
    scale = np.float32(1)
    if not norm <= rule.max_grad_norm:  # so that a NaN stays one
        scale = np.float32(rule.max_grad_norm / (norm + 1e-7))
    step = learner.updates[0]
    size = np.float32(rule.learning_rate / (1.0 - _BETA1**step))
    correction = np.float32(1.0 / math.sqrt(1.0 - _BETA2**step))
    keep1, add1 = np.float32(_BETA1), np.float32(1.0 - _BETA1)
    keep2, add2, eps = np.float32(_BETA2), np.float32(1.0 - _BETA2), np.float32(_EPS)
    for p in range(len(gradient)):
        g = gradient[p] * scale
        first = keep1 * learner.exp_avg[p] + add1 * g
        second = keep2 * learner.exp_avg_sq[p] + add2 * (g * g)
        first = np.float32(0) if abs(first) < _NEGLIGIBLE else first
        second = np.float32(0) if second < _NEGLIGIBLE else second
        learner.exp_avg[p], learner.exp_avg_sq[p] = first, second
        learner.online[p] -= size * first / (np.sqrt(second) * correction + eps)


@exact
def learn(rule: Rule, learner: Learner, scratch: Scratch, words: NDArray[np.uint32]) -> None:
    """Take one gradient step on the batch that `words` [B] mean."""
    fetch(learner, words, scratch)
    if rule.double_q:  # van Hasselt et al., 2016, https://arxiv.org/abs/1509.06461
        q = values(rule.sizes, learner.online, scratch.s_t, scratch.passed)
        choose_next(q, scratch.next_action)
    q_t = values(rule.sizes, learner.target, scratch.s_t, scratch.passed)
    if not rule.double_q:
        choose_next(q_t, scratch.next_action)
    q_tm1 = values(rule.sizes, learner.online, scratch.s_tm1, scratch.kept)
    out = scratch.delta[0, : q_tm1.size].reshape(q_tm1.shape)
    learner.loss_sum[0] += slopes(rule, q_tm1, q_t, scratch, out)
    learner.updates[0] += 1
    backpropagate(rule, learner.online, scratch)
    adam(rule, learner, scratch.gradient, scratch.lanes)


@exact
def learn_many(rule: Rule, learner: Learner, scratch: Scratch, words: NDArray[np.uint32]) -> None:
    """Take a gradient step on each of the batches that `words` [G, B] mean."""
    for g in range(len(words)):
        learn(rule, learner, scratch, words[g])


@exact
def follow(rule: Rule, learner: Learner) -> None:
    """Move the target network towards the online network, by tau."""
    tau, rest = np.float32(rule.tau), np.float32(1.0 - rule.tau)
    for p in range(len(learner.target)):
        learner.target[p] = tau * learner.online[p] + rest * learner.target[p]
