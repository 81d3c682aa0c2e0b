"""How long a search takes to find a configuration that holds on seeds it has never seen.

python -m benchmarks.search --samplers tpe random --pruners none hyperband --study-seeds 3 --jobs 2

Each job is one search: a sampler, a pruner and a study seed, in one process with an in-memory
study, for this is about the search and not about the database. Whenever a trial completes with the
threshold or more, and no worse than the best so far, its configuration is confirmed: retrained on
fresh seeds, as in the final stage. The search ends when their mean reaches the threshold, or with
the budget. Agent-steps and seconds of CPU count everything, pruned trials and failed confirmations
included; agent-steps are the same on every machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import multiprocessing
import statistics
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from benchmarks.stock import make_pruner
from trialfleet.search.samplers import make_sampler
from trialfleet.search.space import suggest
from trialfleet.seeds import fresh_seeds, search_seeds
from trialfleet.study.file import load
from trialfleet.study.spec import Spec
from worker.trainers import protocol
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import NonFiniteError, Progress, Score
from worker.trainers.threads import use_one_thread

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
FRESH = 10  # seeds on which a configuration is confirmed


@dataclass(kw_only=True)
class Outcome:
    """One search, to its success or the end of its budget."""

    sampler: str
    pruner: str
    seeds: int  # agents in each trial
    eval_every: int  # environment steps between evaluations
    study_seed: int
    found: bool = False
    trials: int = 0  # completed and pruned ones
    pruned: int = 0  # of these
    confirmations: int = 0  # configurations retrained on fresh seeds
    agent_steps: int = 0  # of the search and of all confirmations
    confirm_steps: int = 0  # of these, the confirmations'
    cpu_seconds: float = 0.0  # of one core, the same
    confirmed: float = math.nan  # mean over fresh seeds of the last configuration retrained
    params: str = ""  # what was found, or retrained last, as JSON


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process is given."""

    spec: Spec
    sampler: str  # as on the command line
    pruner: str
    threshold: float  # return
    max_trials: int


def run(job: Job) -> Outcome:
    """Search until a configuration is found and confirmed, or the budget is spent."""
    use_one_thread()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec, begun = job.spec, time.process_time()
    outcome = Outcome(
        sampler=job.sampler,
        pruner=job.pruner,
        seeds=spec.task.seeds,
        eval_every=spec.task.eval_every,
        study_seed=spec.seed,
    )
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name=spec.name, storage=storage, direction="maximize")
    best, number = -math.inf, 0
    while not outcome.found and outcome.trials < job.max_trials:
        if number - outcome.trials > spec.search.max_failures:
            break
        # As a worker does: sampler and pruner are made anew for each trial.
        study = optuna.load_study(
            study_name=spec.name,
            storage=storage,
            sampler=make_sampler(spec, number),
            pruner=make_pruner(spec),
        )
        trial = study.ask()
        knobs = suggest(trial, spec.agent)
        state, score = _train(job, trial, knobs, search_seeds(spec.seed, number, spec.task.seeds))
        outcome.agent_steps += score.agent_steps
        study.tell(trial, score.mean if state == TrialState.COMPLETE else None, state=state)
        number += 1
        outcome.trials += state != TrialState.FAIL
        outcome.pruned += state == TrialState.PRUNED
        if state == TrialState.COMPLETE and score.mean >= max(best, job.threshold):
            seeds = fresh_seeds(spec.seed, outcome.confirmations, FRESH)
            _, fresh = _train(job, None, knobs, seeds)
            outcome.confirmations += 1
            outcome.confirm_steps += fresh.agent_steps
            outcome.agent_steps += fresh.agent_steps
            outcome.confirmed, outcome.params = fresh.mean, json.dumps(trial.params)
            outcome.found = fresh.mean >= job.threshold
        if state == TrialState.COMPLETE:
            best = max(best, score.mean)
    outcome.cpu_seconds = time.process_time() - begun
    return outcome


@dataclass(frozen=True)
class _Score:
    mean: float  # over agents, of the last evaluation
    agent_steps: int


def _train(
    job: Job, trial: optuna.Trial | None, knobs: dict[str, Any], seeds: list[int]
) -> tuple[TrialState, _Score]:
    """Train to the end, or to where the trial is pruned; without a trial, as the final stage."""
    task, final = job.spec.task, job.spec.final
    training = Training(
        protocol.Job(
            env=task.env,
            knobs=knobs,
            seeds=seeds,
            train_steps=task.train_steps,
            eval_every=task.eval_every,
            eval_episodes=task.eval_episodes,
            score_episodes=task.score_episodes if trial is not None else final.episodes,
            keep="best" if task.keep == "best" else "last",
            compiled=True,
        )
    )
    try:
        for event in training.run():
            steps = event.step * len(seeds)
            if isinstance(event, Score):
                return TrialState.COMPLETE, _Score(float(event.returns.mean()), steps)
            if isinstance(event, Progress) or trial is None:
                continue
            mean = float(event.metrics["return"].mean())
            trial.report(mean, event.step)
            if event.step < task.train_steps and trial.should_prune():
                return TrialState.PRUNED, _Score(mean, steps)
    except NonFiniteError:
        lost = (training.segment + 1) * task.eval_every * len(seeds)
        return TrialState.FAIL, _Score(math.nan, lost)
    finally:
        training.close()
    raise AssertionError("a training ends with its score")


def median(values: Iterable[float]) -> float:
    """The lower of the middle two where there are two: infinity stands for what was never found."""
    return statistics.median_low(list(values))


def table(outcomes: Iterable[Outcome]) -> str:
    """A line for each kind of search; medians over the study seeds."""
    groups: defaultdict[tuple[str, str, int, int], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        kind = (outcome.sampler, outcome.pruner, outcome.seeds, outcome.eval_every)
        groups[kind].append(outcome)
    wide = max([7, *(len(name) for kind in groups for name in kind[:2])])
    head = f"{'sampler':{wide}} {'pruner':{wide}} seeds {'every':>6} {'found':>7}"
    lines = [f"{head} {'trials':>7} {'k agent-steps':>13} {'CPU s':>8} {'confirmations':>13}"]
    rows = []
    for (sampler, pruner, seeds, every), group in groups.items():

        def middle(field: str, group: list[Outcome] = group) -> float:
            return median(getattr(each, field) if each.found else math.inf for each in group)

        found = sum(each.found for each in group)
        line = f"{sampler:{wide}} {pruner:{wide}} {seeds:5} {every:6} {found:3}/{len(group):<3}"
        line += f" {_number(middle('trials')):>7} {_number(middle('agent_steps') / 1e3):>13}"
        line += f" {_number(middle('cpu_seconds')):>8} {_number(middle('confirmations')):>13}"
        rows.append((middle("agent_steps"), line))
    return "\n".join(lines + [line for _, line in sorted(rows)])


def _number(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "–"


# Those that go with any study as they are.
_SAMPLERS = ["tpe", "random", "qmc", "gp", "cmaes"]
_PRUNERS = ["none", "median", "percentile", "hyperband", "successive_halving"]


def variant(
    spec: Spec,
    *,
    sampler: str,
    pruner: str,
    seeds: int | None = None,
    eval_every: int | None = None,
    study_seed: int,
) -> Spec:
    """The study with another sampler, pruner and seed, and if given, other agents and segments."""
    found = json.loads(spec.to_json())
    found["seed"] = study_seed
    found["search"] |= {"sampler": _parse_option(sampler), "pruner": _parse_option(pruner)}
    if found["search"]["sampler"] == "cmaes":
        # Whoever could write this study is this process.
        found["search"]["sampler"] = {"name": "cmaes", "allow_pickle": True}
    if seeds is not None:
        found["task"]["seeds"] = seeds
    if eval_every is not None:
        found["task"]["eval_every"] = eval_every
    return Spec.from_json(json.dumps(found))


def _parse_option(option: str) -> Any:
    """A name, or a table as the study file would have it."""
    return tomllib.loads(f"it = {option}")["it"] if option.startswith("{") else option


def _jobs(options: argparse.Namespace) -> list[Job]:
    spec = load(options.study)
    return [
        Job(
            spec=variant(
                spec,
                sampler=sampler,
                pruner=pruner,
                seeds=seeds,
                eval_every=every,
                study_seed=seed,
            ),
            sampler=sampler,
            pruner=pruner,
            threshold=options.threshold,
            max_trials=options.max_trials or spec.search.trials,
        )
        for seed in range(options.study_seeds)
        for seeds in options.seeds_per_trial or [None]
        for every in options.eval_every or [None]
        for sampler in options.samplers
        for pruner in options.pruners
    ]


def main() -> None:
    """Run the jobs, keep a line of each, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search",
        description="Trials, agent-steps and seconds until a configuration is found that holds.",
        epilog="example: python -m benchmarks.search --samplers tpe "
        "'{ name = \"tpe\", multivariate = false }' --pruners none median --jobs 2",
    )
    add = parser.add_argument
    add("--study", type=Path, default=ROOT / "studies" / "cartpole.toml", metavar="STUDY.toml")
    add("--samplers", nargs="+", default=_SAMPLERS, help="names or tables (default: %(default)s)")
    add("--pruners", nargs="+", default=_PRUNERS, help="names or tables (default: %(default)s)")
    add("--seeds-per-trial", nargs="+", type=int, help="agents (default: the study's)")
    add("--eval-every", nargs="+", type=int, help="environment steps (default: the study's)")
    add("--study-seeds", type=int, default=5, help="searches of each kind (default: %(default)s)")
    add("--threshold", type=float, default=475.0, help="return (default: %(default)s)")
    add("--max-trials", type=int, help="in a search (default: the study's)")
    add("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    add("--out", type=Path, default=RESULTS / "search.csv", help="(default: %(default)s)")
    options = parser.parse_args()
    jobs = _jobs(options)
    outcomes: list[Outcome] = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with (
        options.out.open("w", newline="", encoding="utf-8") as file,
        ProcessPoolExecutor(options.jobs, mp_context=context) as pool,
    ):
        writer = csv.DictWriter(file, [f.name for f in fields(Outcome)], lineterminator="\n")
        writer.writeheader()
        for future in as_completed([pool.submit(run, job) for job in jobs]):
            outcome = future.result()
            outcomes.append(outcome)
            writer.writerow(_row(outcome))
            file.flush()
            print(f"{len(outcomes)} of {len(jobs)}: {_row(outcome)}", file=sys.stderr, flush=True)
    print(table(outcomes))


def _row(outcome: Outcome) -> dict[str, Any]:
    rounded = {"cpu_seconds": round(outcome.cpu_seconds, 1)}
    if math.isfinite(outcome.confirmed):
        rounded["confirmed"] = round(outcome.confirmed, 1)
    return {**asdict(outcome), **rounded}


if __name__ == "__main__":
    main()
