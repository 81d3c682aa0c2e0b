"""Final scores of many seeds of one configuration, trained once and kept for benchmarks.coverage.

python -m benchmarks.final_scores

Six configurations, a good and a mediocre one of each of three tasks; a row of
benchmarks/results/final-scores.csv is the mean return of one agent over its final episodes, as in
the final stage of a study. LunarLander needs the extra `box2d`.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from worker.trainers import protocol
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.trainer import Training
from worker.trainers.environment import Environment
from worker.trainers.protocol import Score
from worker.trainers.threads import use_one_thread

FILE = Path(__file__).parent / "results" / "final-scores.csv"
_TOGETHER = 16  # agents of one program


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One configuration of one task."""

    env: str
    steps: int
    params: Params
    seeds: int
    episodes: int = 50  # of the final score
    evaluations: tuple[int, int] = (20, 10)  # how many, and episodes of each
    max_episode_steps: int | None = None


_CARTPOLE = Params(
    learning_rate=2e-3,
    gamma=0.99,
    buffer_size=50_000,
    target_update_interval=50,
    exploration_final_eps=0.04,
    train_freq=8,
    gradient_steps=-1,
    loss="mse",
)
_ACROBOT = Params(learning_rate=1e-3, buffer_size=60_000, exploration_fraction=0.15)
_LUNAR = Params(
    learning_rate=7e-4,
    batch_size=128,
    buffer_size=30_000,
    learning_starts=1_000,
    exploration_fraction=0.3,
    net_arch=(128, 128),
)
SETTINGS = {
    "cartpole good": Setting(
        env="CartPole-v1", steps=40_000, params=_CARTPOLE, seeds=256, episodes=150
    ),
    "cartpole mediocre": Setting(
        env="CartPole-v1",
        steps=20_000,
        params=Params(learning_rate=1e-3, buffer_size=20_000, train_freq=8),
        seeds=256,
    ),
    "acrobot good": Setting(env="Acrobot-v1", steps=60_000, params=_ACROBOT, seeds=128),
    "acrobot mediocre": Setting(env="Acrobot-v1", steps=20_000, params=_ACROBOT, seeds=128),
    # Its steps are not compiled, so it has fewer of them.
    "lunarlander good": Setting(
        env="LunarLander-v3",
        steps=30_000,
        params=_LUNAR,
        seeds=64,
        episodes=20,
        evaluations=(5, 5),
        max_episode_steps=400,
    ),
    "lunarlander mediocre": Setting(
        env="LunarLander-v3",
        steps=12_000,
        params=_LUNAR,
        seeds=64,
        episodes=20,
        evaluations=(4, 5),
        max_episode_steps=400,
    ),
}


def main() -> int:
    """Train what is missing; whatever was interrupted goes on with the same command."""
    options = _parse()
    there = {(name, seed) for name, seeds in _rows(options.file).items() for seed in seeds}
    jobs = []
    for name in options.setting:
        missing = [seed for seed in range(SETTINGS[name].seeds) if (name, seed) not in there]
        jobs += [(name, missing[at : at + _TOGETHER]) for at in range(0, len(missing), _TOGETHER)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        futures = [pool.submit(train, *job) for job in jobs]
        for done, future in enumerate(as_completed(futures), start=1):
            name, scores = future.result()
            found = _rows(options.file)
            found.setdefault(name, {}).update(scores)
            _write(options.file, found)
            print(f"{done} of {len(jobs)} programs", file=sys.stderr, flush=True)
    return 0


def scores(name: str) -> list[float]:
    """The kept scores of one setting, in the order of their seeds; none before it was trained."""
    return [*_rows(FILE).get(name, {}).values()]


def train(name: str, seeds: list[int]) -> tuple[str, dict[int, float]]:
    """Train these seeds of one setting; the score of each."""
    use_one_thread()
    setting = SETTINGS[name]
    task = {"env": setting.env, "max_episode_steps": setting.max_episode_steps}
    trainer = Training(
        protocol.Job(
            env=Environment.of_task(task),
            knobs=asdict(setting.params),
            seeds=seeds,
            train_steps=setting.steps,
            eval_every=setting.steps // setting.evaluations[0],
            eval_episodes=setting.evaluations[1],
            score_episodes=setting.episodes,
            compiled=True,
        )
    )
    for event in trainer.run():
        if isinstance(event, Score):
            return name, dict(zip(seeds, event.returns.tolist(), strict=True))
    raise AssertionError("a training ends with its score")


def _rows(file: Path) -> dict[str, dict[int, float]]:
    """The scores of each setting by seed."""
    found: dict[str, dict[int, float]] = {}
    if file.exists():
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                found.setdefault(row["setting"], {})[int(row["seed"])] = float(row["score"])
    return found


def _write(file: Path, found: dict[str, dict[int, float]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("setting", "seed", "score"))
        for name in (name for name in SETTINGS if name in found):
            writer.writerows(
                (name, seed, f"{found[name][seed]:.2f}") for seed in sorted(found[name])
            )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.final_scores",
        description="Train many seeds of six configurations, and keep their final scores.",
    )
    add = parser.add_argument
    add("--setting", nargs="+", choices=SETTINGS, default=[*SETTINGS], help="(default: all)")
    add("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    add("--file", type=Path, default=FILE, help="(default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
