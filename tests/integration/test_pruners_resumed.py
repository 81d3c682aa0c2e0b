"""A trial that was lost and resumed is judged as one that was not, by every pruner."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.studies import create, expire, finish, take
from trialfleet.artifacts.stores import open_store
from trialfleet.search.pruners import PRUNERS, make_judge
from trialfleet.store import leases
from trialfleet.store.artifacts import checkpoints
from trialfleet.store.leases import Claim
from trialfleet.store.optuna.history import Curves
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.reports import Reports
from worker.trainers.protocol import Evaluation

NAME = "study-29"  # Hyperband has its first three trials in one bracket
SEGMENTS = 8
# What the trial returns at its evaluations, and two that were completed before it.
CURVE = [45.0, 47.0, 46.0, 46.5, 35.0, 20.0, 10.0, 5.0]
OTHERS = [
    [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0],
    [40.0, 50.0, 60.0, 65.0, 64.0, 63.0, 62.0, 61.0],
]
TABLES = [
    '"none"',
    '{ name = "median", n_startup_trials = 1, n_warmup_steps = 48 }',
    '{ name = "percentile", percentile = 40.0, n_startup_trials = 1 }',
    '{ name = "successive_halving", reduction_factor = 2 }',
    '{ name = "hyperband", reduction_factor = 2 }',
    '{ name = "threshold", lower = 30.0 }',
    '{ name = "threshold", upper = 46.6, n_warmup_steps = 32 }',
    '{ name = "patient", patience = 2 }',
    '{ name = "patient", patience = 1, wrapped = { name = "median", n_startup_trials = 1 } }',
    '{ name = "patient", patience = 1, wrapped = { name = "successive_halving",'
    " reduction_factor = 2 } }",
    '{ name = "optuna.pruners:MedianPruner", args = { n_startup_trials = 1 } }',
    # It keeps what it knows of a trial in the trial's own attributes.
    '{ name = "optuna.pruners:SuccessiveHalvingPruner",'
    " args = { min_resource = 16, reduction_factor = 2 } }",
]


class Judged:
    """One attempt at a trial: evaluations in, decisions out."""

    def __init__(self, database: Database, study: Study, claim: Claim, start: int) -> None:
        self.database, self.claim = database, claim
        found = database.optuna_storage().get_trial(claim.trial_id)
        rungs = [key for key in found.system_attrs if key.startswith("completed_rung_")]
        self.reports = Reports(
            database,
            claim,
            judge=make_judge(study.spec, claim.number),
            history=Curves(database, study.search_id),
            curve={step: each for step, each in found.intermediate_values.items() if step <= start},
            passed=len(rungs) if start else 0,
        )

    def pruned(self, segment: int, value: float) -> bool:
        metrics = {"return": np.array([value, value])}
        self.reports.add(Evaluation(step=16 * (segment + 1), metrics=metrics))
        self.reports.flush()
        return self.reports.pruned(self.database.optuna_storage(self.claim.fence))

    def facts(self) -> tuple[dict[int, float], dict[str, object]]:
        """What is stored of the trial: its reports, and what pruners keep of it."""
        found = self.database.optuna_storage().get_trial(self.claim.trial_id)
        return found.intermediate_values, {**found.system_attrs, **self.reports.attributes}


def completed(database: Database, pruner: str) -> Study:
    """A study with two trials."""
    study = create(
        database,
        name=NAME,
        train_steps=16 * SEGMENTS,
        pruner=pruner,
        trials=8,
        max_attempts=1_000,
    )
    for curve in OTHERS:
        claim = take(database, NAME)
        attempt = Judged(database, study, claim, 0)
        for segment, value in enumerate(curve):
            attempt.pruned(segment, value)
        finish(database, claim, sent=16 * SEGMENTS)
    return study


@pytest.mark.parametrize("pruner", TABLES)
def test_lost_and_resumed(database: Database, pruner: str) -> None:
    whole = completed(database, pruner)
    attempt = Judged(database, whole, take(database, NAME), 0)
    decisions, facts = [], []
    for segment, value in enumerate(CURVE[:-1]):
        decisions.append(attempt.pruned(segment, value))
        facts.append(attempt.facts())
        if decisions[-1]:
            break
    database.optuna_storage().delete_study(whole.search_id)

    study = completed(database, pruner)
    store = open_store(study.artifacts, database)
    claim = take(database, NAME)
    attempt = Judged(database, study, claim, 0)
    for segment, expected in enumerate(decisions):
        # It gets to the next evaluation, is judged there, and is lost before its checkpoint.
        assert attempt.pruned(segment, CURVE[segment]) == expected
        expire(database)
        leases.reap(database, NAME)
        claim = take(database, NAME)
        attempt = Judged(database, study, claim, 16 * segment)
        # The next attempt is judged there alike.
        assert attempt.pruned(segment, CURVE[segment]) == expected
        assert attempt.facts() == facts[segment]
        checkpoints.save(database, store, study, claim, step=16 * (segment + 1), data=b"state")
    assert any(decisions) == (pruner != '"none"'), "the test shows something"


def test_each_pruner_is_tried() -> None:
    for name in PRUNERS:
        assert any(f'"{name}"' in table for table in TABLES)
