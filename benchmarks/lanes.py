"""What it gains to train trials beside each other instead of one after the other.

python -m benchmarks.lanes

Eight trials of four agents, with step sizes and discounts of their own, on one core by default;
segments, evaluations and scores included. Both ways take turns, medians are printed, and the
results of both are compared to the bit.

- tensors: the tensor program that trains on a GPU, here on the CPU: eight lanes of one program, as
  `trialfleet worker --lanes 8` trains them there, against one trial at a time.
- compiled: what Numba compiles, which is what a CPU trains with: a thread for each trial, as
  `--lanes 8` has it there, against one trial at a time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.settings import SETTINGS, TIMED_STEPS
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Job, Score
from worker.trainers.threads import use_one_thread

_SEGMENTS = 4


def make(params: Params, seeds: Sequence[int], steps: int, way: str, lanes: int) -> Training:
    """One trial."""
    job = Job(
        env="CartPole-v1",
        knobs=asdict(params),
        seeds=seeds,
        train_steps=steps,
        eval_every=steps // _SEGMENTS,
        eval_episodes=5,
        score_episodes=20,
        compiled=way == "compiled",
        lanes=lanes,
    )
    return Training(job, tensors=way == "tensors")


def finish(training: Training) -> list[NDArray[Any]]:
    """Train to the end; the scores and the networks."""
    result: list[NDArray[Any]] = []
    result += [event.returns for event in training.run() if isinstance(event, Score)]
    result += training.result().values()
    training.close()
    return result


def trials(params: Params, count: int, agents: int) -> list[tuple[Params, list[int]]]:
    """Hyperparameters and seeds of so many trials."""
    return [
        (
            replace(params, learning_rate=params.learning_rate * 0.9**i, gamma=0.99 - 0.002 * i),
            list(range(i * agents, (i + 1) * agents)),
        )
        for i in range(count)
    ]


def compare(name: str, way: str, *, lanes: int, agents: int, rounds: int) -> None:
    """Print a line of one setting and one way to train."""
    steps = TIMED_STEPS[name] // _SEGMENTS * _SEGMENTS
    wanted = trials(SETTINGS[name][1], lanes, agents)

    def in_turn() -> list[list[NDArray[Any]]]:
        return [finish(make(params, seeds, steps, way, 1)) for params, seeds in wanted]

    def at_once() -> list[list[NDArray[Any]]]:
        made = [make(params, seeds, steps, way, lanes) for params, seeds in wanted]
        with ThreadPoolExecutor(lanes) as pool:
            return [*pool.map(finish, made)]

    finish(make(*wanted[0], steps, way, 1))  # what is compiled, is compiled now
    seconds: dict[Callable[[], object], list[float]] = {in_turn: [], at_once: []}
    equal = True
    for _ in range(rounds):
        found = []
        for do, taken in seconds.items():
            began = time.perf_counter()
            found.append(do())
            taken.append(time.perf_counter() - began)
        equal &= all(
            np.array_equal(one, other)
            for trial, same in zip(*found, strict=True)
            for one, other in zip(trial, same, strict=True)
        )
    middle = [statistics.median(taken) for taken in seconds.values()]
    done = lanes * agents * steps
    print(
        f"{name:>8} {way:>9} {done / middle[0]:10,.0f} {done / middle[1]:10,.0f}"
        f" {middle[0] / middle[1]:9.2f}  {'yes' if equal else 'NO'}",
        flush=True,
    )


def main() -> None:
    """Print a line for each setting and way."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lanes",
        description="Trials beside each other against one after the other.",
        epilog="example: python -m benchmarks.lanes --settings light --lanes 8 --cores 2",
    )
    add = parser.add_argument
    add("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    add("--ways", nargs="+", choices=("tensors", "compiled"), default=["tensors", "compiled"])
    add("--lanes", type=int, default=8, help="trials (default: %(default)s)")
    add("--agents", type=int, default=4, help="of each trial (default: %(default)s)")
    add("--cores", type=int, default=1, help="that the process may use (default: %(default)s)")
    add("--rounds", type=int, default=3, help="whose medians are printed (default: %(default)s)")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    use_one_thread()
    print(
        f"{options.lanes} trials of {options.agents} agents, {options.cores} core(s),"
        f" agent-steps/s\n{'':>8} {'':>9} {'in turn':>10} {'at once':>10} {'speed-up':>9}  equal"
    )
    for name in options.settings:
        for way in options.ways:
            compare(name, way, lanes=options.lanes, agents=options.agents, rounds=options.rounds)


if __name__ == "__main__":
    main()
