"""The program to beat: the same DQN for S agents on CartPole, written in JAX, in one jitted call.

python -m benchmarks.jax_dqn --setting light --agents 8

It is as a strong user would write it instead of using a tuner's trainer: nothing can be stopped,
resumed, pruned or evaluated on the way. It does as many updates as ours, on memories of the same
size, and its agents learn (`--evaluate`). What made it fast, of what was tried:

- a scan over rounds of `train_freq` steps, so that no update is computed to be thrown away;
- a round's random numbers drawn at once, a transition one row, a round's rows written at once;
- no network in the steps before `learning_starts`;
- the batch last (`[H, B]`), agents in groups of at most eight; where a round has many updates, one
  agent after the other does all of its own, and the target's values are computed ahead.

It needs `pip install "trialfleet[bench-jax]"`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from functools import partial
from itertools import pairwise
from typing import Any

# Before JAX is imported: one thread, as everybody here.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.settings import SETTINGS, TIMED_STEPS, updates
from worker.trainers.dqn.params import Params

_GROUP = 8  # agents that are trained together; more leave the processor's cache
_AHEAD = 512  # observations in a pass through the target network

Array = Any  # jax.Array, or one that is traced
Network = list[tuple[Array, Array]]  # weight [out, in] and bias [out, 1] of each layer


def step(state: Array, action: Array) -> tuple[Array, Array]:
    """CartPole's next state [4, S], and whether the pole fell or the cart left [S]."""
    x, v, angle, spin = state
    push = jnp.where(action, 10.0, -10.0)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    force = (push + 0.05 * spin**2 * sin) / 1.1
    turn = (9.8 * sin - cos * force) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
    pull = force - 0.05 * turn * cos / 1.1
    after = jnp.stack([x + 0.02 * v, v + 0.02 * pull, angle + 0.02 * spin, spin + 0.02 * turn])
    return after, (jnp.abs(after[0]) > 2.4) | (jnp.abs(after[2]) > 12 * 2 * np.pi / 360)


def values(network: Network, observations: Array) -> Array:
    """Action values [A, B] of one agent for [O, B]."""
    hidden = observations
    for weight, bias in network[:-1]:
        hidden = jax.nn.relu(weight @ hidden + bias)
    weight, bias = network[-1]
    return weight @ hidden + bias


def draw(key: Array, sizes: tuple[int, ...]) -> Network:
    """A network as torch.nn.Linear draws its layers."""
    network = []
    for (i, o), own in zip(pairwise(sizes), jax.random.split(key, len(sizes) - 1), strict=True):
        bound = 1.0 / np.sqrt(i)
        both = jax.random.uniform(own, (o, i + 1), minval=-bound, maxval=bound)
        network.append((both[:, :i], both[:, i:]))
    return network


class Program:
    """A whole training of one setting.

    Args:
        params: The hyperparameters; `tau` must be 1, and `double_q` off.
        agents: S.
        steps: Of each agent.
    """

    def __init__(self, params: Params, agents: int, steps: int) -> None:
        assert params.tau == 1.0
        assert not params.double_q
        self._p, self._s, self._steps = params, agents, steps
        self._group = min(agents, _GROUP)
        assert agents % self._group == 0
        freq = params.train_freq
        self._first = params.learning_starts // freq  # rounds of steps alone
        self._capacity = -(-min(params.buffer_size, steps) // freq) * freq
        began = time.perf_counter()
        self._run = jax.jit(self._train).lower(jax.random.key(0)).compile()
        self.seconds_to_compile = time.perf_counter() - began

    def __call__(self, seed: int) -> tuple[Network, float]:
        """Train; the networks [S, …] and the mean length of all episodes."""
        networks, ended = jax.block_until_ready(self._run(jax.random.key(seed)))
        return networks, self._s * self._steps / max(1, int(ended.sum()))

    def _train(self, key: Array) -> Any:
        keys = jax.random.split(key, self._s // self._group)
        networks, ended = jax.lax.map(self._train_group, keys)
        return jax.tree.map(lambda x: x.reshape(self._s, *x.shape[2:]), networks), ended

    def _train_group(self, key: Array) -> Any:
        p, n = self._p, self._group
        own = jax.random.split(key, 4)
        sizes = (4, *p.net_arch, 2)
        networks = jax.vmap(lambda k: draw(k, sizes))(jax.random.split(own[0], n))
        zeros = jax.tree.map(jnp.zeros_like, networks)
        state = jax.random.uniform(own[1], (4, n), minval=-0.05, maxval=0.05)
        memory = jnp.zeros((n, self._capacity, 11))
        env = (state, jnp.zeros(n, jnp.int32))
        ended = jnp.int32(0)
        if self._first:
            env, more, rows = self._steps_of(None, env, own[2], 0, self._first * p.train_freq)
            memory, ended = memory.at[:, : rows.shape[1]].set(rows), ended + more

        def one_round(carry: Any, at: Array) -> Any:
            networks, targets, moments, memory, env, key, ended = carry
            key, for_steps, for_words = jax.random.split(key, 3)
            before = at * p.train_freq
            env, more, rows = self._steps_of(networks, env, for_steps, before, p.train_freq)
            memory = jax.lax.dynamic_update_slice(memory, rows, (0, before % self._capacity, 0))
            # The network stands still within a round, so one copy is as good as several.
            after, every = before + p.train_freq, p.target_update_interval
            due = after // every > before // every
            targets = jax.lax.cond(due, lambda: networks, lambda: targets)
            size = jnp.minimum(after, self._capacity).astype(jnp.uint32)
            words = jax.random.bits(for_words, (n, p.updates_per_round, p.batch_size), jnp.uint32)
            rows = ((words >> 17) * size) >> 15  # sizes are below 2^17
            done = (at - self._first) * p.updates_per_round
            args = (networks, targets, moments, memory, rows)
            if p.updates_per_round == 1:
                networks, moments = jax.vmap(self._learn, (0, 0, 0, 0, 0, None))(*args, done)
            else:
                one_agent: Any = partial(self._learn, done=done)
                networks, moments = jax.lax.map(lambda own: one_agent(*own), args)
            return (networks, targets, moments, memory, env, key, ended + more), None

        rounds = jnp.arange(self._first, self._steps // p.train_freq)
        carry = (networks, networks, (zeros, zeros), memory, env, own[3], ended)
        (networks, _, _, _, env, key, ended), _ = jax.lax.scan(one_round, carry, rounds)
        if rest := self._steps % p.train_freq:
            _, more, _ = self._steps_of(networks, env, key, self._steps - rest, rest)
            ended += more
        return networks, ended

    def _steps_of(self, networks: Any, env: Any, key: Array, before: Any, count: int) -> Any:
        """Do `count` steps; the environments, how many episodes ended, and rows [S, count, W]."""
        p, n = self._p, self._group
        start, at_random, explore = jax.random.split(key, 3)
        start = jax.random.uniform(start, (count, 4, n), minval=-0.05, maxval=0.05)
        action = jax.random.bernoulli(at_random, 0.5, (count, n))
        done = before + jnp.arange(count)
        share = p.exploration_initial_eps - p.exploration_final_eps
        epsilon = p.exploration_initial_eps - share * done / (p.exploration_fraction * self._steps)
        epsilon = jnp.maximum(epsilon, p.exploration_final_eps)
        epsilon = jnp.where(done < p.learning_starts, 1.0, epsilon)
        explore = jax.random.uniform(explore, (count, n)) < epsilon[:, None]

        def one(carry: Any, drawn: Any) -> Any:
            (state, length), ended = carry
            start, action, explore = drawn
            if networks is not None:
                best = jax.vmap(lambda q, s: values(q, s[:, None])[:, 0], (0, 1))(networks, state)
                action = jnp.where(explore, action, best[:, 1] > best[:, 0])
            after, fell = step(state, action)
            length = length + 1
            over = fell | (length >= 500)
            row = jnp.concatenate([state, after, jnp.stack([action, jnp.ones(n), fell])])
            env = (jnp.where(over, start, after), jnp.where(over, 0, length))
            return (env, ended + over.sum()), row

        (env, ended), rows = jax.lax.scan(one, (env, jnp.int32(0)), (start, action, explore))
        return env, ended, rows.transpose(2, 0, 1)

    def _learn(
        self, network: Any, target: Any, moments: Any, memory: Array, rows: Array, done: Array
    ) -> Any:
        """A round's updates of one agent, from its memory [C, W] at rows [G, B]."""
        p, (rounds, size) = self._p, rows.shape
        together = max(k for k in range(1, rounds + 1) if rounds % k == 0 and k * size <= _AHEAD)
        v_t = jax.lax.map(
            lambda some: values(target, memory[some][:, 4:8].T).max(0),
            rows.reshape(rounds // together, together * size),
        ).reshape(rounds, size)

        def update(carry: Any, drawn: Any) -> Any:
            network, (first, second), count = carry
            batch, v_t = memory[drawn[0]], drawn[1]
            y = batch[:, 9] + p.gamma * (1.0 - batch[:, 10]) * v_t

            def loss(network: Any) -> Array:
                q = values(network, batch[:, :4].T)
                error = jnp.where(batch[:, 8] > 0.5, q[1], q[0]) - y
                if p.loss == "mse":
                    return (error**2).mean()
                size = jnp.abs(error)
                return jnp.where(size < 1.0, 0.5 * error**2, size - 0.5).mean()

            slope = jax.grad(loss)(network)
            norm = jnp.sqrt(sum((x**2).sum() for x in jax.tree.leaves(slope)))
            scale = jnp.minimum(1.0, p.max_grad_norm / (norm + 1e-7))
            count = count + 1
            size = p.learning_rate / (1.0 - 0.9 ** count.astype(jnp.float32))
            correction = 1.0 / (1.0 - 0.999 ** count.astype(jnp.float32))
            first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * scale * g, first, slope)
            second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * (scale * g) ** 2, second, slope)
            network = jax.tree.map(
                lambda w, m, v: w - size * m / (jnp.sqrt(v * correction) + 1e-8),
                network,
                first,
                second,
            )
            return (network, (first, second), count), None

        carry, _ = jax.lax.scan(update, (network, moments, done), (rows, v_t))
        return carry[0], carry[1]


def greedy_mean(networks: Network, agents: int, episodes: int = 20) -> float:
    """Mean return of greedy episodes of all agents."""

    def episode(network: Network, key: Array) -> Array:
        def one(carry: Any, _: None) -> Any:
            state, alive, total = carry
            q = values(network, state)[:, 0]
            after, fell = step(state, (q[1] > q[0])[None])
            return (after, alive & ~fell[0], total + alive), None

        state = jax.random.uniform(key, (4, 1), minval=-0.05, maxval=0.05)
        (_, _, total), _ = jax.lax.scan(one, (state, True, jnp.int32(0)), None, 500)
        return total

    keys = jax.random.split(jax.random.key(99), (agents, episodes))
    play = jax.vmap(jax.vmap(episode, (None, 0)))
    mean: float = float(jax.jit(play)(networks, keys).mean())
    return mean


def main() -> None:
    """Print agent-steps/s; with `--serve`, of one training for each line of the input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jax_dqn", description=__doc__)
    add = parser.add_argument
    add("--setting", choices=SETTINGS, default="light")
    add("--agents", type=int, default=8, help="S: up to 8, or a multiple of 8")
    add("--rounds", type=int, default=5, help="whose median is printed (default: %(default)s)")
    add("--steps", type=int, help="of each agent (default: those that are timed)")
    add("--serve", action="store_true", help="train once for each line on standard input")
    add("--evaluate", action="store_true", help="greedy episodes of the trained agents")
    options = parser.parse_args()
    params = SETTINGS[options.setting][1]
    steps = options.steps or TIMED_STEPS[options.setting]
    program = Program(params, options.agents, steps)

    def speed(seed: int) -> float:
        began = time.perf_counter()
        program(seed)
        return float(options.agents * steps / (time.perf_counter() - began))

    if options.serve:
        print(f"{program.seconds_to_compile:.2f}", flush=True)
        for seed, _ in enumerate(sys.stdin):
            print(speed(seed), flush=True)
        return
    found = statistics.median(speed(seed) for seed in range(options.rounds))
    made = f"compiled in {program.seconds_to_compile:.1f} s, {updates(params, steps):,} updates"
    print(f"{options.setting}, {options.agents} agents: {found:,.0f} agent-steps/s; {made} each")
    if options.evaluate:
        networks, length = program(0)
        mean = greedy_mean(networks, options.agents)
        print(f"greedy mean {mean:.1f} after {steps:,} steps, training episodes {length:.1f}")


if __name__ == "__main__":
    main()
