"""What a process remembers of finished trials: all of them, each read once, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from benchmarks.storage.history import fill
from tests.support.studies import at_once, create, finish, send, take, take_all, train_by_hand
from trialfleet.search.space import distributions
from trialfleet.store.optuna import rows
from trialfleet.store.optuna.history import Curves
from trialfleet.store.storage import Database

Open = Callable[[], Database]


def test_curves_are_those_of_the_complete_trials(database: Database) -> None:
    study = create(database, train_steps=48, trials=40)
    spec = study.spec
    fill(
        database,
        study.search_id,
        30,
        distributions=distributions(spec.agent),
        steps=[16, 32, 48],
        ours=True,
    )
    curves = Curves(database, study.search_id)
    curves.update()
    running, pruned = take(database), take(database)
    for claim, value in ((running, 7.0), (pruned, np.inf)):
        send(database, claim, 16, [value, value])
    finish(database, pruned, state="PRUNED")
    train_by_hand(database, study, take(database), scores=[1.0, 3.0], early=np.nan)
    curves.update()
    trials = database.optuna_study(study.name).get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert curves.complete == len(complete) == 31
    assert len(trials) == 33
    for step in (16, 32, 48):
        expected = [t.intermediate_values[step] for t in complete if step in t.intermediate_values]
        assert np.array_equal(curves.at(step), np.sort(expected), equal_nan=True)
    assert curves.at(64).size == 0
    # What was filled in looks as a worker's trials do, and stock Optuna reads the same.
    assert set(trials[0].params) == set(spec.agent.searched())
    stock = optuna.storages.RDBStorage(
        database.url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    )
    theirs = stock.get_all_trials(study.search_id)
    stock.engine.dispose()
    assert [t.params for t in theirs] == [t.params for t in trials]
    assert [t.state for t in theirs] == [t.state for t in trials]


def test_finished_trials_are_read_once(
    open_database: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, other = open_database(), open_database()
    study = create(database, trials=9)
    read = database.optuna_study(study.name)
    claims = take_all(other)
    read_numbers: list[int] = []

    def frozen(row: Any) -> FrozenTrial:
        read_numbers.append(row.number)
        return rows.frozen(row)

    monkeypatch.setattr("trialfleet.store.optuna.history.frozen", frozen)
    for claim in claims:
        finish(other, claim)
        read.get_trials(deepcopy=False)
    assert read_numbers == [claim.number for claim in claims]


@pytest.mark.parametrize("workers", [8])
def test_none_is_missed_while_many_finish_at_once(open_database: Open, workers: int) -> None:
    """A place in the order that is committed late must not be passed over."""
    database = open_database()
    study = create(database, trials=64)
    others = [open_database() for _ in range(workers)]
    claims = take_all(database)
    read = database.optuna_study(study.name)

    def finish_share(own: Database, slot: int) -> None:
        for claim in claims[slot::workers]:
            finish(own, claim)

    def look() -> None:
        done = 0
        while done < len(claims):
            states = (TrialState.COMPLETE,)
            done = len(read.get_trials(deepcopy=False, states=states))

    at_once(look, *(lambda o=o, s=s: finish_share(o, s) for s, o in enumerate(others)))
    assert {t.number for t in read.get_trials(deepcopy=False)} == set(range(64))
