"""Who trains a DQN on CartPole fastest: ours, the same in JAX, SBX, CleanRL, Stable-Baselines3.

python -m benchmarks.peers

Everybody has a process of its own on one CPU with one thread, and trains in turns (a round of each,
then the next round), so that a machine that slows down slows everybody; medians are printed, of
environment steps over all agents in a second. What JAX needs to compile is left out, and so is what
Numba needs the first time. Who can train only one agent at a time has one number.

Each is also asked what its agents have learned: the mean return of 20 greedy episodes after the
setting's whole training, of 8 agents or of 3. Everybody does the same number of updates, and says
so.

`make bench-env` installs Stable-Baselines3 and `pip install "trialfleet[bench-jax]"` JAX. SBX is
left out where it is not installed (`pip install sbx-rl`). CleanRL is a script that needs an older
Gymnasium than ours, and has the network of `light` alone: `CLEANRL` names the folder of a checkout,
`CLEANRL_PYTHON` an interpreter with PyTorch, gymnasium==0.29.1, "numpy<2", tyro and tensorboard.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.settings import SETTINGS, TIMED_STEPS, sb3_model, updates
from worker.provenance import hardware
from worker.trainers.dqn.params import Params

_EPISODES = 20
_ALONE = 3  # agents that one who trains them one by one is judged by

# The seconds that a training took, each agent's updates, and how the agents play, once asked.
Trained = tuple[float, int, Callable[[], float]]
Train = Callable[[Params, int, int], Trained]  # of params, agents, steps


def ours(params: Params, agents: int, steps: int, *, compiled: bool) -> Trained:
    """Ours."""
    from benchmarks.dqn_speed import train

    seconds, training = train(params, agents, steps, compiled=compiled)

    def play() -> float:
        from worker.trainers.dqn.episodes import evaluate
        from worker.trainers.dqn.randomness import Purpose, streams

        sources = streams(range(agents), 0, Purpose.SCORE)
        played = evaluate(training._agent.online, "CartPole-v1", sources, _EPISODES)
        return float(played.returns.mean())

    return seconds, training._agent.updates, play


def jax(params: Params, agents: int, steps: int) -> Trained:
    """The program in benchmarks/jax_dqn.py, compiled when it is first asked for."""
    from benchmarks.jax_dqn import Program, greedy_mean

    key = (params, agents, steps)
    if key not in _programs:
        _programs[key] = Program(params, agents, steps)
    began = time.perf_counter()
    networks, _ = _programs[key](0)
    seconds = time.perf_counter() - began
    return seconds, updates(params, steps), lambda: greedy_mean(networks, agents, _EPISODES)


_programs: dict[Any, Any] = {}


def sb3(params: Params, agents: int, steps: int) -> Trained:
    """Stable-Baselines3's, one agent after the other."""
    return _one_by_one(lambda seed: sb3_model(params, seed=seed), agents, steps)


def sbx(params: Params, agents: int, steps: int) -> Trained:
    """Stable-Baselines3's in JAX. It knows one loss, and its gradients are never scaled down."""
    from sbx import DQN

    given = asdict(params)
    for name in ("loss", "double_q", "normalize", "precision", "max_grad_norm"):
        del given[name]
    net_arch = list(given.pop("net_arch"))
    policy = {"net_arch": net_arch}
    return _one_by_one(
        lambda seed: DQN("MlpPolicy", "CartPole-v1", policy_kwargs=policy, seed=seed, **given),
        agents,
        steps,
    )


def _one_by_one(make: Callable[[int], Any], agents: int, steps: int) -> Trained:
    from stable_baselines3.common.evaluation import evaluate_policy

    models = [make(seed) for seed in range(agents)]
    began = time.perf_counter()
    for model in models:
        model.learn(steps)
    seconds = time.perf_counter() - began

    def play() -> float:
        means: list[Any] = [
            evaluate_policy(model, model.get_env(), _EPISODES, warn=False)[0] for model in models
        ]
        return statistics.mean(map(float, means))

    return seconds, models[0]._n_updates, play


def cleanrl(params: Params, agents: int, steps: int) -> Trained:
    """CleanRL's dqn.py as it stands, one agent after the other; its own clock says how fast."""
    folder = tempfile.mkdtemp(prefix="cleanrl-")
    rates = []
    for seed in range(agents):
        options = {
            "seed": seed,
            "total-timesteps": steps,
            "learning-rate": params.learning_rate,
            "buffer-size": params.buffer_size,
            "gamma": params.gamma,
            "tau": params.tau,
            "target-network-frequency": params.target_update_interval,
            "batch-size": params.batch_size,
            "start-e": params.exploration_initial_eps,
            "end-e": params.exploration_final_eps,
            "exploration-fraction": params.exploration_fraction,
            "learning-starts": params.learning_starts,
            "train-frequency": params.train_freq,
        }
        ran = subprocess.run(
            [
                os.environ["CLEANRL_PYTHON"],
                f"{os.environ['CLEANRL']}/cleanrl/dqn.py",
                "--no-cuda",
                "--save-model",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.environ["CLEANRL"]},
            capture_output=True,
            text=True,
        )
        # Once the model is saved it films episodes, for which it may lack what it needs.
        said = re.findall(r"^SPS: (\d+)$", ran.stdout, re.MULTILINE)
        if not said:
            raise RuntimeError(f"CleanRL has not trained: {ran.stderr[-2000:]}")
        rates.append(int(said[-1]))

    def play() -> float:
        import torch

        from worker.trainers.dqn.saved import play_saved

        means = []
        for path in Path(folder).glob("runs/*/dqn.cleanrl_model"):
            arrays = {}
            for name, tensor in torch.load(path).items():
                _, number, part = name.split(".")  # every other module is a ReLU
                arrays[f"q.{int(number) // 2}.{part}"] = tensor.numpy()
            means.append(play_saved(arrays, "CartPole-v1", seed=0, episodes=_EPISODES).mean())
        return float(np.mean(means))

    made = sum(
        step > params.learning_starts and step % params.train_freq == 0 for step in range(steps)
    )
    return sum(steps / rate for rate in rates), made, play


PEERS: dict[str, Train] = {
    "Trialfleet": lambda params, agents, steps: ours(params, agents, steps, compiled=True),
    "Trialfleet, plain": lambda params, agents, steps: ours(params, agents, steps, compiled=False),
    "JAX program": jax,
    "SBX": sbx,
    "CleanRL": cleanrl,
    "Stable-Baselines3": sb3,
}
NEEDS = {"JAX program": "jax", "SBX": "sbx", "Stable-Baselines3": "stable_baselines3"}
ALONE = {"SBX", "CleanRL", "Stable-Baselines3"}  # train one agent at a time


def is_there(name: str, setting: str) -> bool:
    """Whether this peer can be asked, in this setting."""
    if name == "CleanRL":
        return setting == "light" and {"CLEANRL", "CLEANRL_PYTHON"} <= set(os.environ)
    return find_spec(NEEDS.get(name, "torch")) is not None


def serve(name: str, setting: str) -> None:
    """Answer each line `AGENTS STEPS PLAY` on standard input with a measurement."""
    from worker.trainers.threads import use_one_thread

    use_one_thread()
    params = SETTINGS[setting][1]
    for line in sys.stdin:
        agents, steps, play = map(int, line.split())
        seconds, done, played = PEERS[name](params, agents, steps)
        answer = {"speed": agents * steps / seconds, "updates": done}
        print(json.dumps({**answer, "mean": played() if play else None}), flush=True)


class Peer:
    """One of them in a process of its own."""

    def __init__(self, name: str, setting: str) -> None:
        cpu = max(os.sched_getaffinity(0))
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        xla = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers", "--serve", name, "--settings", setting],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **one, "XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu"},
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
        )

    def ask(self, agents: int, steps: int, *, play: bool = False) -> dict[str, Any]:
        """Train once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(agents, steps, int(play), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def compare(setting: str, stacks: list[int], *, rounds: int, whole: bool) -> None:
    """Print the table of one setting."""
    (steps, params), timed = SETTINGS[setting], TIMED_STEPS[setting]
    names = [name for name in PEERS if is_there(name, setting)]
    wanted = updates(params, timed)
    with ExitStack() as stack:
        peers = {name: Peer(name, setting) for name in names}
        for peer in peers.values():
            stack.callback(peer.close)
        asked = [(name, s) for name in names for s in ([1] if name in ALONE else stacks)]
        for name, agents in asked:  # what is compiled, is compiled now
            made = peers[name].ask(agents, timed)["updates"]
            assert wanted - 1 <= made <= wanted, name  # CleanRL counts from step 0
        speeds: dict[tuple[str, int], list[float]] = {each: [] for each in asked}
        for _ in range(rounds):
            for name, agents in asked:
                speeds[name, agents].append(peers[name].ask(agents, timed)["speed"])
        print(
            f"\n{setting}: net {params.net_arch}, batch {params.batch_size}, {params.loss},"
            f" {params.gradient_steps} update(s) every {params.train_freq} steps; agent-steps/s"
            f" over {timed:,} steps with {wanted:,} updates each"
        )
        head = "".join(f"{f'S = {agents}':>10}" for agents in stacks)
        learned = f"greedy mean after {steps:,} steps" if whole else ""
        print(f"{'':20}{head}  {learned}")
        for name in names:
            cells = [statistics.median(speeds[name, s]) for s in stacks if (name, s) in speeds]
            row = "".join(f"{cell:10,.0f}" for cell in cells).ljust(10 * len(stacks))
            agents = _ALONE if name in ALONE else 8
            mean = f"{peers[name].ask(agents, steps, play=True)['mean']:8.1f}" if whole else ""
            print(f"{name:20}{row}  {mean}", flush=True)


def main() -> None:
    """Print a table for each setting."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="Training speed of DQNs on CartPole-v1, one thread, everybody in turns.",
        epilog="example: python -m benchmarks.peers --settings light --agents 1 8 --rounds 3",
    )
    add = parser.add_argument
    add("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    add("--agents", nargs="+", type=int, default=[1, 8, 32], help="stack sizes: up to 8, or 8·n")
    add("--rounds", type=int, default=5, help="whose medians are printed (default: %(default)s)")
    add("--speed-only", action="store_true", help="leave out what the agents have learned")
    add("--serve", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.settings[0])
        return
    print(hardware("cpu"))
    for setting in options.settings:
        compare(setting, options.agents, rounds=options.rounds, whole=not options.speed_only)


if __name__ == "__main__":
    main()
