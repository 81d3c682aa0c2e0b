"""Is our DQN the same learner as Stable-Baselines3's? Their learning curves, side by side.

python -m benchmarks.curves --setting light

Both train on CartPole-v1 with the same settings, each seed by itself, and every network, theirs
too, plays the same number of greedy episodes on fresh environments after the same number of steps.
The curves are kept in benchmarks/results/, one file for each learner; `--train` says whose are made
anew, and `--from-csv` only compares what lies there.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import settings
from benchmarks.settings import sb3_model
from coordinator.report.difference import ERROR, holm
from coordinator.report.difference import compare as permutation_test
from trialfleet.study.values import center
from worker.trainers.dqn.episodes import evaluate
from worker.trainers.dqn.network import load_network
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Evaluation, Job
from worker.trainers.threads import use_one_thread

ENV = "CartPole-v1"
SETTINGS = {
    **settings.SETTINGS,
    # CleanRL's settings are for half a million steps, and RL Zoo's swing widely; these learn early
    # and steadily, so that a difference has the best chance to show.
    "steady": (
        20_000,
        Params(
            learning_rate=5e-4,
            gamma=0.99,
            batch_size=64,
            buffer_size=20_000,
            learning_starts=500,
            train_freq=4,
            gradient_steps=2,
            target_update_interval=200,
            tau=1.0,
            exploration_initial_eps=1.0,
            exploration_fraction=0.3,
            exploration_final_eps=0.05,
            max_grad_norm=10.0,
            net_arch=(64, 64),
            loss="huber",
            double_q=False,
        ),
    ),
}
LEARNERS = ("ours", "sb3")
RESULTS = Path(__file__).parent / "results"
_AGENTS = 10  # of ours, trained as one program: no process is given more

Curve = dict[int, float]  # environment step -> mean return of the greedy episodes
Curves = dict[int, Curve]  # by seed


def main() -> int:
    """Train what is asked for, and compare; the exit code is 1 if the learners differ."""
    options = _parse()
    if not options.from_csv:
        _train(options)
    curves = {who: read(_file(options, who)) for who in LEARNERS}
    rows = compare(curves["ours"], curves["sb3"])
    print(table(rows))
    if options.plot is not None:
        _plot(curves, options.plot)
    apart = [row.step for row in rows if row.p <= ERROR]
    if apart:
        print(f"apart: at {', '.join(f'{step:,}' for step in apart)} steps")
    return 1 if apart else 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """Both learners at one evaluation: the mean return of each seed's network."""

    step: int
    ours: NDArray[np.float64]  # [N]
    sb3: NDArray[np.float64]  # [M]
    p: float  # of the permutation test of their means, corrected for all evaluations


def compare(ours: Curves, sb3: Curves) -> list[Row]:
    """Both learners at each step at which both were evaluated."""
    every = [set(curve) for curves in (ours, sb3) for curve in curves.values()]
    steps = sorted(set.intersection(*every))
    pairs = [(_returns(ours, step), _returns(sb3, step)) for step in steps]
    ps = holm([permutation_test(mine.tolist(), theirs.tolist()).p for mine, theirs in pairs])
    return [
        Row(step=step, ours=mine, sb3=theirs, p=p)
        for step, (mine, theirs), p in zip(steps, pairs, ps, strict=True)
    ]


def _returns(curves: Curves, step: int) -> NDArray[np.float64]:
    return np.array([curve[step] for curve in curves.values()])


def table(rows: Iterable[Row]) -> str:
    """A line for each evaluation."""
    half = f"{'mean':>6} {'IQM':>6} {'middle half':>16}"
    lines = [f"{'':>7} | {'ours':^30} | {'SB3':^30} |", f"{'step':>7} | {half} | {half} |    p"]
    for row in rows:
        cells = []
        for returns in (row.ours, row.sb3):
            low, high = np.quantile(returns, [0.25, 0.75])
            iqm = float(center(returns, "iqm"))
            cells.append(f"{returns.mean():6.1f} {iqm:6.1f} {low:7.1f} …{high:7.1f}")
        lines.append(f"{row.step:7,} | {' | '.join(cells)} | {row.p:4.2f}")
    return "\n".join(lines)


def train_ours(
    params: Params, *, steps: int, every: int, episodes: int, seeds: list[int]
) -> Curves:
    """Train all of `seeds` as one program."""
    use_one_thread()
    job = Job(
        env=ENV,
        knobs=asdict(params),
        seeds=seeds,
        train_steps=steps,
        eval_every=every,
        eval_episodes=episodes,
        score_episodes=1,
        keep="last",
        compiled=True,  # where the precision has it
    )
    curves: Curves = {seed: {} for seed in seeds}
    for event in Training(job).run():
        if isinstance(event, Evaluation):
            for seed, mean in zip(seeds, event.metrics["return"], strict=True):
                curves[seed][event.step] = float(mean)
    return curves


def train_sb3(params: Params, *, steps: int, every: int, episodes: int, seeds: list[int]) -> Curves:
    """Train one seed after the other."""
    torch.set_num_threads(1)
    curves: Curves = {}
    for seed in seeds:
        model = sb3_model(params, seed=seed)
        curve = curves[seed] = Curve()
        evaluate_now = partial(_evaluate_sb3, model, seed, episodes)

        def step_done(*_: object, model: Any = model, curve: Curve = curve) -> bool:
            # SB3 calls back before a step's update, and from there to the next step's callback
            # its network does not change: that is when the step before can be looked at.
            before = model.num_timesteps - 1
            if before and before % every == 0:
                curve[before] = evaluate_now()  # noqa: B023 - called while this seed is trained
            return True

        model.learn(steps, callback=step_done)
        if steps not in curve:
            curve[steps] = evaluate_now()
    return curves


def _evaluate_sb3(model: Any, seed: int, episodes: int) -> float:
    stream = np.random.SeedSequence((seed, model.num_timesteps))
    network = load_network(sb3_arrays(model.q_net))
    return float(evaluate(network, ENV, [stream], episodes).returns.mean())


def sb3_arrays(q_net: Any) -> dict[str, NDArray[np.float32]]:
    """SB3's network as `load_network` takes it."""
    linear = [layer for layer in q_net.q_net if isinstance(layer, torch.nn.Linear)]
    arrays = {}
    for n, layer in enumerate(linear):
        arrays[f"q.{n}.weight"] = layer.weight.detach().numpy().copy()
        arrays[f"q.{n}.bias"] = layer.bias.detach().numpy().copy()
    return arrays


def path(folder: Path, setting: str, who: str) -> Path:
    """Where a learner's curves lie."""
    return folder / f"curves-{setting}-{who}.csv"


def _file(options: argparse.Namespace, who: str) -> Path:
    if who == "ours" and options.precision != "fp32":
        who = f"ours-{options.precision}"
    return path(options.results, options.setting, who)


def write(file: Path, curves: Curves) -> None:
    """Keep a learner's curves."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("seed", "step", "mean_return"))
        for seed, curve in sorted(curves.items()):
            writer.writerows((seed, step, f"{mean:.2f}") for step, mean in sorted(curve.items()))


def read(file: Path) -> Curves:
    """What `write` kept."""
    curves: Curves = {}
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            curves.setdefault(int(row["seed"]), {})[int(row["step"])] = float(row["mean_return"])
    return curves


def _train(options: argparse.Namespace) -> None:
    steps, params = SETTINGS[options.setting]
    params = replace(params, precision=options.precision)
    steps = options.steps or steps
    seeds = list(range(options.seeds))
    sizes = {"steps": steps, "every": steps // options.evaluations, "episodes": options.episodes}
    trainers: dict[str, tuple[Callable[..., Curves], int]] = {
        "ours": (train_ours, _AGENTS),
        "sb3": (train_sb3, 1),
    }
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for who in options.train:
            train, size = trainers[who]
            parts = [seeds[n : n + size] for n in range(0, len(seeds), size)]
            job = partial(_call, train, params, sizes)
            curves: Curves = {}
            for part in _progress(who, len(seeds), pool.map(job, parts)):
                curves |= part
            write(_file(options, who), curves)


def _call(train: Callable[..., Curves], params: Params, sizes: Any, seeds: list[int]) -> Curves:
    return train(params, seeds=seeds, **sizes)


def _progress(who: str, total: int, parts: Iterable[Curves]) -> Iterator[Curves]:
    done = 0
    for part in parts:
        done += len(part)
        print(f"{who}: {done} of {total} seeds", file=sys.stderr, flush=True)
        yield part


def _plot(curves: dict[str, Curves], file: Path) -> None:
    """Draw the interquartile means and the middle half of the seeds, if matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="environment steps", ylabel="return, interquartile mean over seeds")
    rows = compare(curves["ours"], curves["sb3"])
    steps = [row.step for row in rows]
    learners = {
        "Trialfleet": [row.ours for row in rows],
        "Stable-Baselines3": [row.sb3 for row in rows],
    }
    for name, each in learners.items():
        axes.plot(steps, [float(center(returns, "iqm")) for returns in each], label=name)
        lows, highs = zip(*(np.quantile(returns, [0.25, 0.75]) for returns in each), strict=True)
        axes.fill_between(steps, lows, highs, alpha=0.25)
    axes.legend(loc="lower right")
    figure.savefig(file)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curves",
        description="Learning curves of our DQN and SB3's on CartPole-v1 with the same settings.",
        epilog="example: python -m benchmarks.curves --setting light --seeds 10 --jobs 2",
    )
    add = parser.add_argument
    add("--setting", choices=SETTINGS, default="light", help="(default: %(default)s)")
    add("--seeds", type=int, default=10, help="of each learner (default: %(default)s)")
    add("--steps", type=int, help="of each agent (default: the setting's own)")
    add("--evaluations", type=int, default=10, help="over these steps (default: %(default)s)")
    add("--episodes", type=int, default=20, help="in an evaluation (default: %(default)s)")
    add("--train", nargs="+", choices=LEARNERS, default=LEARNERS, help="(default: both)")
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="of our matrix products")
    add("--from-csv", action="store_true", help="train nothing, compare what was kept")
    add("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    add("--results", type=Path, default=RESULTS, help="folder of the CSVs (default: %(default)s)")
    add("--plot", type=Path, metavar="PNG", help="draw the curves, if matplotlib is installed")
    options = parser.parse_args()
    steps = options.steps or SETTINGS[options.setting][0]
    if min(options.seeds, options.evaluations, options.episodes, options.jobs) < 1:
        parser.error("--seeds, --evaluations, --episodes and --jobs must be at least 1")
    if steps % options.evaluations:
        parser.error(f"--evaluations must divide the {steps} steps")
    return options


if __name__ == "__main__":
    sys.exit(main())
