"""How fast the batched DQN trains, beside Stable-Baselines3's, and how near to what a CPU can do.

python -m benchmarks.dqn_speed

Everything runs on one thread and in turns (a round of each, then the next round), so that a machine
that slows down slows everybody; medians are printed. SB3's part needs `make bench-env`.

- agent-steps/s: environment steps over all agents in a second of training, without evaluations.
- update: sampling a batch and learning from it, microseconds for each agent.
- floor: the time that the update's matrix products would take at the speed of a product of two
  1024 × 1024 matrices, measured in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.settings import SETTINGS, TIMED_STEPS, sb3_model
from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Job
from worker.trainers.threads import use_one_thread

_UPDATES = 64  # of each agent in one timing of updates
_EDGE = 1024  # of the square matrices whose product says what the CPU can do


def train(params: Params, agents: int, steps: int) -> float:
    """Agent-steps in a second of our training."""
    job = Job(
        env="CartPole-v1",
        knobs=asdict(params),
        seeds=range(agents),
        train_steps=steps,
        eval_every=steps,
        eval_episodes=1,
        score_episodes=1,
    )
    training = Training(job)
    began = time.perf_counter()
    for _ in training.run():
        pass
    training.close()
    return agents * steps / (time.perf_counter() - began)


def train_sb3(params: Params, steps: int) -> float:
    """Environment steps in a second of Stable-Baselines3's training."""
    model = sb3_model(params, seed=0)
    began = time.perf_counter()
    model.learn(steps)
    return steps / (time.perf_counter() - began)


class Update:
    """Updates of S agents from full replay memories, and what their matrix products amount to."""

    def __init__(self, params: Params, agents: int) -> None:
        rng = np.random.default_rng(0)
        generators = [np.random.default_rng(seed) for seed in range(agents)]
        self._agent = Agent(params=params, observation_size=4, actions=2, generators=generators)
        self._replay = ReplayMemory(stack=agents, capacity=10_000, observation_size=4)
        for _ in range(10_000):
            noise = rng.normal(size=(2, agents, 4))
            ends = np.zeros(agents, np.bool_)
            actions = rng.integers(2, size=agents)
            self._replay.add(noise[0], actions, np.ones(agents), noise[1], ends)
        self._replay.flush()
        words = rng.integers(0, 2**32, (_UPDATES, agents, params.batch_size), np.uint32)
        self._rows = self._replay.rows(words)
        self._together = params.batches_together
        self._agents = agents
        sizes = (4, *params.net_arch, 2)
        weights = [i * o for i, o in pairwise(sizes)]
        # Forward with both networks, and back: by every weight, and by every layer's input but the
        # first one's.
        self.flops = 2 * params.batch_size * (3 * sum(weights) + sum(weights[1:]))  # of an agent

    def run(self) -> None:
        """Learn from `_UPDATES` batches."""
        for rows in torch.split(self._rows, self._together):
            self._agent.update(self._replay.sample(rows))

    def seconds(self) -> float:
        """Of one update of one agent."""
        return timed(self.run) / _UPDATES / self._agents

    def share_in_products(self) -> float:
        """Share of an update's time that passes inside of matrix products."""
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            self.run()
        events = profiler.key_averages()
        total = sum(event.self_cpu_time_total for event in events)
        products = ("aten::bmm", "aten::baddbmm")
        return float(sum(e.self_cpu_time_total for e in events if e.key in products) / total)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def flops_per_second() -> float:
    """What one thread does in the product of two large matrices."""
    matrix = torch.rand(_EDGE, _EDGE)
    return 4 * 2 * _EDGE**3 / timed(lambda: [matrix @ matrix for _ in range(4)])


def compare(name: str, stacks: list[int], *, rounds: int, sb3: bool) -> None:
    """Print a table of one setting."""
    params, steps = SETTINGS[name][1], TIMED_STEPS[name]
    updates = {agents: Update(params, agents) for agents in stacks}
    for update in updates.values():
        update.run()
    speeds: dict[int, list[float]] = {agents: [] for agents in stacks}
    seconds: dict[int, list[float]] = {agents: [] for agents in stacks}
    floors: dict[int, list[float]] = {agents: [] for agents in stacks}
    reference: list[float] = []
    peak: list[float] = []
    for _ in range(rounds):
        if sb3:
            reference.append(train_sb3(params, steps))
        for agents, update in updates.items():
            # The floor before and after, so that a drift in between does not favour either.
            before = flops_per_second()
            seconds[agents].append(update.seconds())
            peak.append((before + flops_per_second()) / 2)
            floors[agents].append(update.flops / peak[-1])
            speeds[agents].append(train(params, agents, steps))
    print(
        f"\n{name}: net {params.net_arch}, batch {params.batch_size}, {params.gradient_steps} "
        f"update(s) every {params.train_freq} steps, {steps:,} steps; "
        f"sgemm {statistics.median(peak) / 1e9:.0f} GFLOP/s"
    )
    base = statistics.median(reference) if reference else None
    if base is not None:
        print(f"Stable-Baselines3, one agent: {base:,.0f} steps/s")
    print(
        f"{'agents':>6} {'agent-steps/s':>14} {'x SB3':>6} {'update µs':>10} {'floor µs':>9} "
        f"{'x floor':>8} {'in products':>12}"
    )
    for agents in stacks:
        speed = statistics.median(speeds[agents])
        ratio = f"{speed / base:.1f}" if base is not None else "-"
        update_us, floor_us = (
            1e6 * statistics.median(values[agents]) for values in (seconds, floors)
        )
        over = statistics.median(
            s / f for s, f in zip(seconds[agents], floors[agents], strict=True)
        )
        share = updates[agents].share_in_products()
        print(
            f"{agents:6} {speed:14,.0f} {ratio:>6} {update_us:10.0f} {floor_us:9.0f} "
            f"{over:8.2f} {share:12.0%}",
            flush=True,
        )


def main() -> None:
    """Print a table for each setting."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dqn_speed",
        description="Training speed of the batched DQN on CartPole-v1, one thread.",
        epilog="example: python -m benchmarks.dqn_speed --settings light --agents 1 8 --rounds 3",
    )
    add = parser.add_argument
    add("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    add("--agents", nargs="+", type=int, default=[1, 4, 8, 16, 32], help="stack sizes")
    add("--rounds", type=int, default=5, help="whose medians are printed (default: %(default)s)")
    add("--no-sb3", action="store_true", help="leave Stable-Baselines3 out")
    options = parser.parse_args()
    use_one_thread()
    for name in options.settings:
        compare(name, options.agents, rounds=options.rounds, sb3=not options.no_sb3)


if __name__ == "__main__":
    main()
