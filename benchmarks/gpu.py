"""How fast agents train on a GPU, by how many there are.

python -m benchmarks.gpu

CartPole, one segment after another that was not timed, without evaluations; medians, of environment
steps over all agents in a second. `launched` is with each operation launched from Python,
`recorded` with CUDA graphs, which is what a worker does. Both take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import asdict, replace

import torch

from benchmarks.settings import SETTINGS, TIMED_STEPS
from trialfleet.errors import UsageError
from worker.provenance import find_device, hardware
from worker.trainers.dqn.gpu import cuda_graphs
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Job
from worker.trainers.threads import use_one_thread


def seconds(params: Params, agents: int, steps: int, device: str, *, recorded: bool) -> float:
    """What a segment of so many steps takes once the first one is done."""
    job = Job(
        env="CartPole-v1",
        knobs=asdict(replace(params, learning_starts=0)),
        seeds=range(agents),
        train_steps=2 * steps,
        eval_every=steps,
        eval_episodes=1,
        score_episodes=1,
        device=device,
    )
    recorders = dict(cuda_graphs.RECORDERS)
    if not recorded:
        cuda_graphs.RECORDERS.clear()
    try:
        training = Training(job, tensors=True)
    finally:
        cuda_graphs.RECORDERS.update(recorders)
    for _ in training._train():
        pass
    training.segment = 1
    began = time.perf_counter()
    for _ in training._train():  # its end waits for the device
        pass
    taken = time.perf_counter() - began
    training.close()
    return taken


def compare(name: str, stacks: list[int], device: str, *, steps: int | None, rounds: int) -> None:
    """Print a table of one setting."""
    params, steps = SETTINGS[name][1], steps or TIMED_STEPS[name]
    print(f"\n{name}: net {params.net_arch}, batch {params.batch_size}, {steps:,} steps")
    print(f"{'agents':>6} {'launched':>12} {'recorded':>12} {'MiB':>8}")
    for agents in stacks:
        found: dict[bool, list[float]] = {False: [], True: []}
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for _ in range(rounds):
            for recorded, taken in found.items():
                taken.append(seconds(params, agents, steps, device, recorded=recorded))
        speeds = [agents * steps / statistics.median(taken) for taken in found.values()]
        memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else float("nan")
        print(f"{agents:6} {speeds[0]:12,.0f} {speeds[1]:12,.0f} {memory:8,.0f}", flush=True)


def main() -> None:
    """Print a table for each setting."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Training speed of our DQN on CartPole-v1, on a GPU.",
        epilog="example: python -m benchmarks.gpu --settings light --agents 64 2048 --steps 2000",
    )
    add = parser.add_argument
    add("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    add("--agents", nargs="+", type=int, default=[8, 64, 512, 2048], help="stack sizes")
    add("--steps", type=int, help="of each agent (default: as in benchmarks.dqn_speed)")
    add("--rounds", type=int, default=3, help="whose medians are printed (default: %(default)s)")
    add("--device", default="cuda", help="where to train (default: %(default)s)")
    options = parser.parse_args()
    try:
        device = find_device(options.device)
    except UsageError as exc:
        parser.error(str(exc))
    use_one_thread()
    print(f"{hardware(device)}, agent-steps/s")
    for name in options.settings:
        compare(name, options.agents, device, steps=options.steps, rounds=options.rounds)


if __name__ == "__main__":
    main()
