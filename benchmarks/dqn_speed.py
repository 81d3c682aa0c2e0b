"""How near our training comes to its matrix products alone.

python -m benchmarks.dqn_speed

Everything runs on one thread and in turns (a round of each, then the next round), so that a machine
that slows down slows everybody; medians are printed, of environment steps over all agents in a
second, without evaluations.

- compiled, plain: with what Numba compiles, and with PyTorch alone.
- bf16: with PyTorch alone, an update's products in bfloat16 (`precision = "bf16"`).
- products: as if a training were nothing but the matrix products of its updates, at the speed of a
  product of two 1024 × 1024 matrices (by PyTorch or NumPy, whichever is faster here), measured in
  the same round.

`python -m benchmarks.peers` has the other programs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import asdict, replace
from itertools import pairwise

import torch

from benchmarks.settings import SETTINGS, TIMED_STEPS, updates
from worker.provenance import hardware
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Job
from worker.trainers.threads import use_one_thread

_EDGE = 1024  # of the square matrices whose product says what the CPU can do


def train(params: Params, agents: int, steps: int, *, compiled: bool) -> tuple[float, Training]:
    """Do one segment's steps and updates, without its evaluation; the seconds that took."""
    job = Job(
        env="CartPole-v1",
        knobs=asdict(params),
        seeds=range(agents),
        train_steps=steps,
        eval_every=steps,
        eval_episodes=1,
        score_episodes=1,
        keep="last",
        compiled=compiled,
    )
    training = Training(job)
    began = time.perf_counter()
    for _ in training._train():
        pass
    seconds = time.perf_counter() - began
    training.close()
    return seconds, training


def operations(params: Params) -> int:
    """Floating-point operations in the matrix products of an update."""
    weights = [i * o for i, o in pairwise((4, *params.net_arch, 2))]
    # Forward with both networks, and back: by every weight, and by every layer's input but the
    # first one's.
    return 2 * params.batch_size * (3 * sum(weights) + sum(weights[1:]))


def operations_per_second() -> float:
    """What one thread does in the product of two large matrices, by PyTorch or by NumPy.

    They have other libraries, of which the one is faster on one maker's processors.
    """
    matrix = torch.rand(_EDGE, _EDGE)
    seconds = []
    for one in (matrix, matrix.numpy()):
        began = time.perf_counter()
        for _ in range(4):
            one @ one
        seconds.append((time.perf_counter() - began) / 4)
    return 2 * _EDGE**3 / min(seconds)


def compare(name: str, stacks: list[int], *, rounds: int) -> None:
    """Print a table of one setting."""
    params, steps = SETTINGS[name][1], TIMED_STEPS[name]
    train(params, 1, steps, compiled=True)  # what is compiled, is compiled now
    found: dict[tuple[int, str], list[float]] = {}
    for _ in range(rounds):
        for agents in stacks:
            # The products before and after, so that a drift in between does not favour either.
            before = operations_per_second()
            seconds, _ = train(params, agents, steps, compiled=True)
            peak = (before + operations_per_second()) / 2
            plainly, _ = train(params, agents, steps, compiled=False)
            in_bf16, _ = train(replace(params, precision="bf16"), agents, steps, compiled=False)
            products = agents * updates(params, steps) * operations(params) / peak
            row = {
                "compiled": agents * steps / seconds,
                "plain": agents * steps / plainly,
                "bf16": agents * steps / in_bf16,
                "products": agents * steps / products,
                "x products": seconds / products,
                "peak": peak,
            }
            for key, value in row.items():
                found.setdefault((agents, key), []).append(value)
    middle = {key: statistics.median(values) for key, values in found.items()}
    print(
        f"\n{name}: net {params.net_arch}, batch {params.batch_size}, {params.gradient_steps}"
        f" update(s) every {params.train_freq} steps, {steps:,} steps; agent-steps/s;"
        f" sgemm {middle[stacks[0], 'peak'] / 1e9:.0f} GFLOP/s"
    )
    print(
        f"{'agents':>6} {'plain':>9} {'bf16':>9} {'compiled':>9} {'products':>9} {'x products':>11}"
    )
    for agents in stacks:
        plain, bf16, compiled, products, over = (
            middle[agents, key] for key in ("plain", "bf16", "compiled", "products", "x products")
        )
        print(
            f"{agents:6} {plain:9,.0f} {bf16:9,.0f} {compiled:9,.0f} {products:9,.0f} {over:11.2f}",
            flush=True,
        )


def main() -> None:
    """Print a table for each setting."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dqn_speed",
        description="Training speed of our DQN on CartPole-v1, one thread.",
        epilog="example: python -m benchmarks.dqn_speed --settings light --agents 1 8 --rounds 3",
    )
    add = parser.add_argument
    add("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    add("--agents", nargs="+", type=int, default=[1, 8, 32], help="stack sizes")
    add("--rounds", type=int, default=5, help="whose medians are printed (default: %(default)s)")
    options = parser.parse_args()
    use_one_thread()
    print(hardware("cpu"))
    for name in options.settings:
        compare(name, options.agents, rounds=options.rounds)


if __name__ == "__main__":
    main()
