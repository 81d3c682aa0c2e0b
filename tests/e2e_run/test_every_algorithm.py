"""Each sampler and each pruner in a study of three workers, whose budget must be exact.

Slow: a study takes seconds. What each decides is tested where it is fast.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from tests.support.invariants import check_invariants
from tests.support.processes import Commands
from tests.support.studies import trivial_study
from trialfleet.search.pruners import PRUNERS
from trialfleet.search.samplers import SAMPLERS
from trialfleet.store import studies
from trialfleet.store.storage import Database

WORKERS = 3
TRIALS = 14
# A range, and choices of which the first says whether there is another range: 2 × (1 + 3) points.
FINITE = """
[agent]
gamma = { low = 0.9, high = 0.98, step = 0.08 }
double_q = { choices = [true, false] }
exploration_final_eps = { low = 0.0, high = 0.1, step = 0.05, when = { double_q = true } }
batch_size = 4
buffer_size = 16
learning_starts = 0
train_freq = 4
net_arch = [8]
"""
SAMPLER_TABLES = {
    "random": '"random"',
    "qmc": '"qmc"',
    "tpe": '{ name = "tpe", n_startup_trials = 3 }',
    "tpe of groups": '{ name = "tpe", n_startup_trials = 3, group = true }',
    "gp": '{ name = "gp", n_startup_trials = 6 }',
    "cmaes": '{ name = "cmaes", allow_pickle = true, popsize = 4 }',
    "nsga2": '{ name = "nsga2", population_size = 4 }',
    "nsga3": '{ name = "nsga3", population_size = 4 }',
    "grid": '{ name = "grid", points_per_range = 2 }',
    "brute_force": '"brute_force"',
    "one's own": '{ name = "optuna.samplers:TPESampler", args = { n_startup_trials = 3 } }',
}
EXHAUSTIVE = {"grid": 2 * (1 + 2), "brute_force": 2 * (1 + 3)}
# Children of one generation may be alike, and what a model takes for the best may be a corner.
MAY_REPEAT = ("nsga2", "nsga3", "gp", "cmaes")
PRUNER_TABLES = {
    "none": '"none"',
    "median": '{ name = "median", n_startup_trials = 1 }',
    "percentile": '{ name = "percentile", percentile = 30.0, n_startup_trials = 1 }',
    "successive_halving": '{ name = "successive_halving", reduction_factor = 2 }',
    "hyperband": '{ name = "hyperband", reduction_factor = 2 }',
    "threshold": '{ name = "threshold", lower = 9.6 }',
    "patient": '{ name = "patient", patience = 1 }',
    "patient on median": '{ name = "patient", patience = 1, wrapped = { name = "median",'
    " n_startup_trials = 1 } }",
    "one's own": '{ name = "optuna.pruners:MedianPruner", args = { n_startup_trials = 1 } }',
}


def test_none_is_left_out() -> None:
    assert SAMPLERS.keys() <= {*SAMPLER_TABLES, "partial_fixed"}
    assert PRUNERS.keys() <= PRUNER_TABLES.keys()


def waiting(database: Database) -> int:
    """How many workers wait for a lock."""
    statement = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database() AND application_name LIKE '%worker%'"
    )
    with database.transaction() as connection:
        return int(connection.scalar(statement) or 0)


def search(commands: Commands, database: Database, study_file: str) -> list[FrozenTrial]:
    """The trials of the study's search, which three workers have run."""
    file = commands.study_file(study_file)
    commands.run("submit", file)
    commands.run("pause", "trivial")
    run = commands.start("run", file, "--workers", f"{WORKERS}")
    # Trials take moments, and a worker some seconds to start: all of them stand in line before the
    # first one begins.
    with database.engine.connect() as connection, connection.begin():
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT FROM public.studies FOR UPDATE"))
        with database.transaction() as other:
            other.execute(text("UPDATE fleet.studies SET paused_at = NULL"))
        run.wait_until(lambda: waiting(database) >= WORKERS)
    run.expect(0)
    check_invariants(database, "trivial")
    study = studies.find(database, "trivial")
    assert (study.stage, study.stopped) == ("done", None)
    with database.transaction() as connection:
        workers = set(connection.scalars(text("SELECT worker FROM fleet.attempts")))
    assert len(workers) == WORKERS
    return database.optuna_study("trivial").get_trials(deepcopy=False)


def points(trials: list[FrozenTrial]) -> Counter[Any]:
    return Counter(tuple(sorted(trial.params.items())) for trial in trials)


def of_finite_space(sampler: str) -> str:
    text = trivial_study(sampler=sampler, trials=TRIALS, train_steps=400, eval_every=400)
    return re.sub(r"\[agent\].*?\n\n", FINITE.lstrip() + "\n", text, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("several", [False, True], ids=["", "several objectives"])
@pytest.mark.parametrize("name", SAMPLER_TABLES)
def test_a_sampler(commands: Commands, database: Database, name: str, several: bool) -> None:
    if several and name == "cmaes":
        pytest.skip("knows one objective")
    fields: dict[str, Any] = {"sampler": SAMPLER_TABLES[name], "trials": TRIALS}
    if several:
        fields["objectives"] = '["score", "parameters"]'
    if name == "brute_force":
        file = of_finite_space(SAMPLER_TABLES[name])
        if several:
            file = file.replace('["score"]', '["score", "parameters"]')
    else:
        file = trivial_study(train_steps=400, eval_every=400, **fields)
    trials = search(commands, database, file)
    if name == "grid":
        assert (len(trials), set(points(trials).values())) == (2 * 2, {1})
    elif name == "brute_force":
        assert (len(trials), set(points(trials).values())) == (EXHAUSTIVE[name], {1})
    else:
        assert len(trials) == TRIALS
        assert len(points(trials)) == TRIALS or name in MAY_REPEAT


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SAMPLER_TABLES)
def test_some_knobs_fixed_on_top_of_any(commands: Commands, database: Database, name: str) -> None:
    sampler = '{ name = "partial_fixed", fixed = { gamma = 0.98 }, wrapped = {} }'
    wrapped = SAMPLER_TABLES[name]
    trials = search(commands, database, of_finite_space(sampler.replace("{}", wrapped)))
    assert {trial.params["gamma"] for trial in trials} == {0.98}
    if name in EXHAUSTIVE:
        assert (len(trials), set(points(trials).values())) == (EXHAUSTIVE[name] // 2, {1})
    else:
        assert len(trials) == TRIALS


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PRUNER_TABLES)
def test_a_pruner(commands: Commands, database: Database, name: str) -> None:
    table = PRUNER_TABLES[name]
    file = trivial_study(train_steps=384, eval_every=32, trials=TRIALS, pruner=table)
    trials = search(commands, database, file)
    states = Counter(trial.state for trial in trials)
    assert states.keys() <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert states.total() == len(points(trials)) == TRIALS
    assert (states[TrialState.PRUNED] > 0) == (name != "none")
