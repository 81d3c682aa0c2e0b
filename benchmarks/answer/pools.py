"""Real searches, and many fresh seeds of their best configurations, trained once and kept.

A search is run by the product in a folder of its own, and exported. Then its best configurations
are trained on a pool of seeds, a line of a CSV file for each. Whatever was interrupted goes on with
the same command.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from benchmarks.answer.strategies import Fresh
from trialfleet.search import space
from trialfleet.study.file import load
from trialfleet.study.spec import Spec
from trialfleet.study.values import curve_area
from worker.trainers import protocol
from worker.trainers.environment import Environment
from worker.trainers.protocol import Evaluation, Score
from worker.trainers.registry import algorithm
from worker.trainers.threads import use_one_thread

# Of the pool: no seed of a study is so low, as its seeds have 63 bits.
_FIRST_SEED = 1_000_000
COLUMNS = ("trial", "seed", "score", "area", "seconds")


@dataclass(frozen=True, kw_only=True)
class Training:
    """One trial of the pool."""

    study: Path  # the study file
    study_seed: int
    trial: int  # of the search
    params: Mapping[str, Any]  # Optuna's
    seeds: list[int]


def search(study: Path, study_seed: int, folder: Path, *, workers: int) -> dict[str, Any]:
    """The study with another seed, run to its end and exported."""
    name = f"answer-{study_seed}"
    there = folder / f"{name}.json"
    if not there.exists():
        changes = ["--set", f"name={name}", "--set", f"seed={study_seed}"]
        for arguments in (
            ["run", str(study.resolve()), *changes, "--workers", str(workers)],
            ["report", name, "--json", there.name],
        ):
            command = [sys.executable, "-P", "-m", "trialfleet.cli", *arguments]
            subprocess.run(command, cwd=folder, check=True)
    found: dict[str, Any] = json.loads(there.read_text(encoding="utf-8"))
    return found


def trials_of(export: Mapping[str, Any], spec: Spec) -> list[FrozenTrial]:
    """The search's COMPLETE trials of an export, as the product ranks them."""
    distributions = space.distributions(spec.agent)
    found = []
    for each in export["search"]:
        if each["state"] != "COMPLETE":
            continue
        params = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in each["params"].items()
        }
        returns = {int(step): float(np.mean(values)) for step, values in each["returns"].items()}
        made = optuna.trial.create_trial(
            state=TrialState.COMPLETE,
            values=each["values"],
            params=params,
            distributions={name: distributions[name] for name in params},
            user_attrs={"scores": each["attributes"]["scores"]},
            intermediate_values=returns,
        )
        made.number = each["number"]
        found.append(made)
    return found


def fill(
    study: Path,
    study_seed: int,
    trials: list[FrozenTrial],
    folder: Path,
    *,
    wanted: list[int],
    seeds: int,
    jobs: int,
) -> dict[int, Fresh]:
    """The pool: so many seeds of each configuration that is wanted, by trial."""
    spec = load(study)
    path = folder / f"pool-{study_seed}.csv"
    by_number = {trial.number: trial for trial in trials}
    there = {(row["trial"], row["seed"]) for row in _rows(path)}
    left = []
    for trial in wanted:
        pool = [_FIRST_SEED * (trial + 1) + index for index in range(seeds)]
        missing = [seed for seed in pool if (str(trial), str(seed)) not in there]
        size = spec.task.seeds
        left += [
            Training(
                study=study,
                study_seed=study_seed,
                trial=trial,
                params=by_number[trial].params,
                seeds=missing[at : at + size],
            )
            for at in range(0, len(missing), size)
        ]
    if left:
        _train_all(left, path, jobs)
    found: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in _rows(path):
        found[int(row["trial"])].append((float(row["score"]), float(row["area"])))
    return {
        trial: Fresh(scores=[s for s, _ in found[trial]], areas=[a for _, a in found[trial]])
        for trial in wanted
    }


def train(job: Training) -> list[dict[str, Any]]:
    """Train one trial of the pool; a row for each of its agents."""
    use_one_thread()
    spec, begun = load(job.study), time.perf_counter()
    task = spec.task
    trainer = algorithm(task.algorithm).make_trainer(
        protocol.Job(
            env=Environment.of_task(task.model_dump()),
            knobs=space.decode(dict(job.params), spec.agent),
            seeds=job.seeds,
            train_steps=task.train_steps,
            eval_every=task.eval_every,
            eval_episodes=task.eval_episodes,
            score_episodes=spec.final.episodes,
            keep="best" if task.keep == "best" else "last",
            compiled=True,
            final=True,
        )
    )
    curves: list[dict[int, float]] = [{} for _ in job.seeds]
    try:
        for event in trainer.run():
            if isinstance(event, Evaluation):
                for curve, value in zip(curves, event.metrics["return"], strict=True):
                    curve[event.step] = float(value)
            elif isinstance(event, Score):
                seconds = (time.perf_counter() - begun) / len(job.seeds)
                return [
                    {
                        "trial": job.trial,
                        "seed": seed,
                        "score": float(score),
                        "area": curve_area(curve),
                        "seconds": round(seconds, 2),
                    }
                    for seed, score, curve in zip(job.seeds, event.returns, curves, strict=True)
                ]
    finally:
        trainer.close()
    raise AssertionError("a training ends with its score")


def _train_all(left: list[Training], path: Path, jobs: int) -> None:
    new = not path.exists()
    context = multiprocessing.get_context("spawn")
    with (
        path.open("a", newline="", encoding="utf-8") as file,
        ProcessPoolExecutor(jobs, mp_context=context) as pool,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        futures = [pool.submit(train, job) for job in left]
        for done, future in enumerate(as_completed(futures), start=1):
            writer.writerows(future.result())
            file.flush()
            print(f"{path.name}: {done} of {len(left)} trials", file=sys.stderr, flush=True)


def _rows(path: Path) -> Iterable[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
