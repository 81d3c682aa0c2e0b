"""What each sampler is good for, and what a suggestion of it costs, as a table.

python -m benchmarks.samplers

What it learns from is found by searches in memory (`benchmarks.sampler_traits`). What a suggestion
costs is timed as a worker asks for it: with a sampler made for the trial, on our storage and a
PostgreSQL of its own, whose history this process has read before, as workers have. The history is
of random points of studies/cartpole.toml; the sampler has had a few trials of its own after those,
which are not timed. A sampler whose suggestions take --limit seconds together has fewer of them. A
Gaussian process keeps the distances of all pairs of trials in each knob, in several arrays: where
one of those would take more than 2 GB, it is not timed.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.sampler_traits import (
    FLOATS,
    KINDS,
    TRAITS,
    distinct_of_eight,
    looks_at,
    loss_beside_chance,
    spec_of,
)
from benchmarks.soak_fleet import temporary_server
from coordinator.create import create_or_join
from trialfleet.cli.schema import migrate
from trialfleet.postgres.url import parse_url
from trialfleet.search.samplers import make_sampler
from trialfleet.search.space import distributions, suggest
from trialfleet.store.storage import Database
from trialfleet.store.trials.optuna_rows import insert_trials
from trialfleet.study.file import load
from trialfleet.study.spec import Spec
from worker.trainers.threads import use_one_thread

ROOT = Path(__file__).resolve().parents[1]
SAMPLERS = {
    "random": '"random"',
    "qmc": '"qmc"',
    "grid": '"grid"',
    "brute_force": '"brute_force"',
    "tpe": '"tpe"',
    "tpe, group": '{ name = "tpe", group = true }',
    "gp": '"gp"',
    "cmaes": '{ name = "cmaes", allow_pickle = true }',
    "nsga2": '{ name = "nsga2", population_size = 16 }',
    "nsga3": '{ name = "nsga3", population_size = 16 }',
}
HISTORIES = (100, 1_000, 10_000)
OWN = 3  # trials that a sampler has first, which are not timed
_MOST_MEMORY = 2e9  # bytes of one array; a Gaussian process needs several
# Searches of so many trials; a Gaussian process needs fewer, and seconds for them.
TRIALS, GP_TRIALS = 80, 40
TRAIT_TRIALS, GP_TRAIT_TRIALS = 48, 16


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=3, help="studies of each kind of space")
    parser.add_argument("--times", type=int, default=7, help="suggestions timed, for the median")
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds for a sampler's suggestions"
    )
    parser.add_argument("--histories", nargs="+", type=int, default=list(HISTORIES))
    options = parser.parse_args()
    use_one_thread()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
    )
    print(f"\n{_row('sampler', *KINDS, *TRAITS, 'eight at once')}")
    print(_row(*["---"] * (2 + len(KINDS) + len(TRAITS))))
    for name in options.samplers:
        print(_row(name, *_traits(SAMPLERS[name], options.seeds)), flush=True)
    print(f"\n{_row('sampler', *(f'after {count:,} trials' for count in options.histories))}")
    print(_row(*["---"] * (1 + len(options.histories))))
    costs = time_all(options.samplers, options.histories, options.times, options.limit)
    for name, cells in costs.items():
        print(_row(name, *cells))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _traits(sampler: str, seeds: int) -> Iterator[str]:
    gp = sampler == SAMPLERS["gp"]
    for kind in KINDS:
        loss = loss_beside_chance(sampler, kind, trials=GP_TRIALS if gp else TRIALS, seeds=seeds)
        yield "refused" if loss is None else f"{loss:.2f}"
    for trait in TRAITS:
        found = looks_at(sampler, trait, trials=GP_TRAIT_TRIALS if gp else TRAIT_TRIALS)
        yield "refused" if found is None else "yes" if found else "no"
    yield f"{distinct_of_eight(sampler, trials=12)} points"


def time_all(
    samplers: Sequence[str], histories: Sequence[int], times: int, limit: float
) -> dict[str, list[str]]:
    """What a suggestion of each sampler costs, at each length of the history."""
    cells: dict[str, list[str]] = {name: [] for name in samplers}
    with temporary_server(workers=4) as server:
        migrate(parse_url(server.url))
        with closing(Database(parse_url(server.url), application="benchmark")) as database:
            spec = load(ROOT / "studies" / "cartpole.toml")
            study_id = create_or_join(database, spec).search_id
            rng = np.random.default_rng(1)
            there = 0
            for count in histories:
                add_history(database, study_id, spec, rng, count - there)
                there = count
                for name in samplers:
                    if name == "brute_force":
                        cells[name].append("as grid, whose code it is")
                        continue
                    distances = count**2 * len(spec.agent.searched()) * 8  # bytes
                    if name == "gp" and distances > _MOST_MEMORY:
                        cells[name].append(
                            f"not timed: its distances take {distances / 1e9:.1f} GB"
                        )
                        continue
                    cells[name].append(time_one(database, spec, SAMPLERS[name], times, limit))
    return cells


def time_one(database: Database, spec: Spec, sampler: str, times: int, limit: float) -> str:
    """What a suggestion takes, the median of so many, or of fewer if they take too long."""
    own = spec_of(sampler, FLOATS).search
    searched = spec.model_copy(update={"search": own})
    found: list[float] = []
    for turn in range(OWN + times):
        number = len(database.optuna_storage().get_all_trials(_id(database, spec), deepcopy=False))
        study = database.optuna_study(spec.name)
        trial_id = study._storage.create_new_trial(study._study_id)
        begun = time.perf_counter()
        sampled = database.optuna_study(spec.name, sampler=make_sampler(searched, number))
        with database.optuna_storage().opening(trial_id):
            suggest(Trial(sampled, trial_id), searched.agent)
        seconds = time.perf_counter() - begun
        study._storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [float(turn)])
        if turn >= OWN or seconds > limit / (OWN + times):
            found.append(seconds)
        if sum(found) > limit:
            break
    middle = statistics.median(found)
    return f"{1_000 * middle:,.0f} ms" if middle < 1 else f"{middle:,.1f} s (of {len(found)})"


def _id(database: Database, spec: Spec) -> int:
    return database.optuna_study(spec.name)._study_id


def add_history(
    database: Database, study_id: int, spec: Spec, rng: np.random.Generator, count: int
) -> None:
    """Insert COMPLETE trials of random points."""
    found = distributions(spec.agent)
    sampler = optuna.samplers.RandomSampler(seed=int(rng.integers(2**31)))
    memory = optuna.create_study(direction="maximize", sampler=sampler)
    trials: list[FrozenTrial] = []
    for _ in range(count):
        params = memory.ask(found).params
        value = float(rng.uniform(9.0, 500.0))
        trials.append(optuna.trial.create_trial(params=params, distributions=found, value=value))
    for at in range(0, len(trials), 1_000):
        with database.transaction() as connection:
            insert_trials(connection, study_id, trials[at : at + 1_000])


if __name__ == "__main__":
    main()
