"""Trials that are lost, given up or given back, and what the next attempt finds of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import optuna
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from tests.support.studies import (
    at_once,
    attribute,
    create,
    expire,
    extend,
    finish,
    outcomes,
    send,
    states,
    take,
    take_all,
)
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import LeaseLostError
from trialfleet.postgres.outages import lease_was_lost
from trialfleet.search import space
from trialfleet.store import leases, metrics
from trialfleet.store.artifacts import checkpoints
from trialfleet.store.leases import Claim, Lost
from trialfleet.store.optuna.history import Curves
from trialfleet.store.storage import Database
from trialfleet.store.trials import life, reports
from worker.reports import Reports
from worker.trainers.protocol import Evaluation

Open = Callable[[], Database]
Ending = Literal["COMPLETE", "PRUNED", "FAIL"]


def test_a_live_lease_is_not_reaped(database: Database) -> None:
    study = create(database)
    take(database)
    assert leases.reap(database, "trivial") == []
    assert states(database, study.search_id) == [(0, "RUNNING")]


def test_only_this_studys_leases_are_reaped(database: Database) -> None:
    create(database, name="one")
    other = create(database, name="other")
    take(database, "other")
    expire(database)
    assert leases.reap(database, "one") == []
    assert states(database, other.search_id) == [(0, "RUNNING")]


def test_after_a_restart_of_postgresql_everybody_has_a_leases_time_to_come_back(
    database: Database,
) -> None:
    create(database)
    claim = take(database)
    up = text("SELECT extract(epoch FROM now() - pg_postmaster_start_time())")
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.attempts SET expires_at = now() - interval '1 day'"))
        # As long as the server has been up, and a minute more.
        lease = float(connection.scalar(up) or 0.0) + 60.0
        connection.execute(
            text("UPDATE fleet.attempts SET lease = make_interval(secs => :lease)"),
            {"lease": lease},
        )
    assert leases.reap(database, "trivial") == []
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.attempts SET lease = '0'"))
    assert [lost.number for lost in leases.reap(database, "trivial")] == [claim.number]


def test_a_lost_trial_waits_until_its_attempts_are_spent(database: Database) -> None:
    study = create(database, max_attempts=3)
    for attempt in (1, 2, 3):
        claim = take(database, worker=f"worker-{attempt}")
        assert (claim.number, claim.attempt) == (0, attempt)
        expire(database)
        state: Literal["WAITING", "FAIL"] = "WAITING" if attempt < 3 else "FAIL"
        assert leases.reap(database, "trivial") == [
            Lost(number=0, worker=f"worker-{attempt}", state=state)
        ]
        assert states(database, study.search_id) == [(0, state)]
    reason = attribute(database, claim, "reason")
    assert reason == '"lost with its worker 3 times; the last worker was worker-3"'
    trial = database.optuna_study(study.name).get_trials()[0]
    assert trial.datetime_complete is not None
    # It is replaced by a new one.
    assert take(database).number == 1


def test_a_release_spends_no_attempt(database: Database) -> None:
    study = create(database, max_attempts=2)
    for _ in range(5):
        leases.release(database, take(database))
    take(database)
    expire(database)
    leases.reap(database, "trivial")
    assert states(database, study.search_id) == [(0, "WAITING")]
    leases.release(database, take(database))
    assert take(database).attempt == 8


def test_concurrent_reapers_handle_each_trial_once(open_database: Open) -> None:
    databases = [open_database() for _ in range(6)]
    study = create(databases[0], trials=40, max_attempts=2)
    for _ in range(2):
        claims = take_all(databases[0])
        expire(databases[0])
        lost = at_once(
            *[lambda database=database: leases.reap(database, "trivial") for database in databases]
        )
        assert sorted(one.number for each in lost for one in each) == list(range(40))
    # Both losses of each count once, so every trial has spent its two attempts now.
    assert {state for _, state in states(databases[0], study.search_id)} == {"FAIL"}
    assert all(outcomes(databases[0], claim) == ["lost", "lost"] for claim in claims)


def test_abandoning_fails_what_has_not_ended_and_nothing_else(database: Database) -> None:
    study = create(database)
    complete, running, waiting = take(database), take(database), take(database)
    finish(database, complete)
    leases.release(database, waiting)
    for _ in range(2):
        with database.transaction() as connection:
            leases.abandon(connection, study.search_id, "enough")
        assert states(database, study.search_id) == [(0, "COMPLETE"), (1, "FAIL"), (2, "FAIL")]
    assert attribute(database, complete, "reason") is None
    assert attribute(database, running, "reason") == attribute(database, waiting, "reason")
    assert outcomes(database, running) == ["lost"]
    assert not extend(database, running)
    with pytest.raises(LeaseLostError):
        finish(database, running)


def test_abandoning_thousands_takes_a_few_statements(database: Database) -> None:
    # They are ended while the study is locked.
    study = create(database, trials=2_001)
    running = take(database)
    with database.transaction() as connection:
        life.steer(connection)
        connection.execute(
            text(
                "INSERT INTO public.trials (study_id, number, state) "
                "SELECT :study_id, n, 'WAITING' FROM generate_series(1, 2000) n"
            ),
            {"study_id": study.search_id},
        )
    statements = 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1

    event.listen(database.engine, "before_cursor_execute", count)
    with database.transaction() as connection:
        assert leases.abandon(connection, study.search_id, "enough") == 2_001
    assert statements < 15
    assert {state for _, state in states(database, study.search_id)} == {"FAIL"}
    assert attribute(database, running, "attempts") == "1"
    with database.transaction() as connection:
        positions = text("SELECT count(*), min(position), max(position) FROM fleet.finished")
        assert tuple(connection.execute(positions).one()) == (2_001, 1, 2_001)
        kept = text("SELECT waiting, running, failed, finished FROM fleet.counters")
        assert tuple(connection.execute(kept).one()) == (0, 0, 2_001, 2_001)


def test_a_reclaimed_trial_keeps_its_parameters_and_starts_clean(database: Database) -> None:
    study = create(database, train_steps=32)
    claim = take(database)
    storage = database.optuna_storage(claim.fence)
    trial = optuna.Trial(database.optuna_study(study.name, storage=storage), claim.trial_id)
    params = space.suggest(trial, study.spec.agent)
    trial.report(5.0, 16)
    storage.set_trial_system_attr(claim.trial_id, "completed_rung_0", 5.0)
    storage.set_trial_system_attr(claim.trial_id, "completed_by_hand", 1)
    with database.transaction(claim.fence) as connection:
        connection.execute(
            text("INSERT INTO fleet.metrics VALUES (:trial_id, 'return', 16, '{4, 6}')"),
            {"trial_id": claim.trial_id},
        )
    leases.release(database, claim)

    again = take(database)
    assert (again.trial_id, again.attempt) == (claim.trial_id, 2)
    frozen = database.optuna_study(study.name).get_trials()[0]
    assert frozen.intermediate_values == {}
    assert frozen.system_attrs == {"completed_by_hand": 1}
    assert set(frozen.params) == {"learning_rate", "gamma"}
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM fleet.metrics")) == 0
    storage = database.optuna_storage(again.fence)
    resumed = optuna.Trial(database.optuna_study(study.name, storage=storage), again.trial_id)
    assert space.suggest(resumed, study.spec.agent) == params


def test_a_reclaimed_trial_keeps_what_it_reported_up_to_its_checkpoint(database: Database) -> None:
    study = create(database, train_steps=48)
    claim = take(database)
    storage = database.optuna_storage(claim.fence)
    for step in (16, 32, 48):
        send(database, claim, step, [1.0, 2.0])
    storage.set_trial_system_attr(claim.trial_id, "completed_rung_0", 5.0)
    with database.transaction(claim.fence) as connection:
        connection.execute(
            text(
                "INSERT INTO fleet.checkpoints (trial_id, step, rungs, artifact, sha256, size) "
                "VALUES (:trial_id, 32, 1, 'x', 'x', 1)"
            ),
            {"trial_id": claim.trial_id},
        )

    def reported() -> tuple[list[int], list[int], set[str]]:
        frozen = database.optuna_study(study.name).get_trials()[0]
        curves = metrics.read(database, study.search_id, "return")
        drawn = [step for step, _ in curves.get(0, [])]
        return sorted(frozen.intermediate_values), drawn, set(frozen.system_attrs)

    expire(database)
    leases.reap(database, "trivial")
    again = take(database)
    assert reported() == ([16, 32], [16, 32], {"completed_rung_0"})
    # Its checkpoint turns out to be damaged: whoever holds the trial starts it over, clean.
    with pytest.raises(DBAPIError) as refused:
        leases.start_over(database, claim)
    assert lease_was_lost(refused.value)
    leases.start_over(database, again)
    assert reported() == ([], [], set())
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM fleet.checkpoints")) == 0
    # A report that a crash of the server loses is noticed after that, too: here the one at 16.
    receipt = reports.send(database, again, sent=16, returns=[(32, 1.0)], metrics=[])
    assert receipt.stored == 0
    assert reported() == ([], [], set())


def test_a_trial_lost_between_two_checkpoints_is_judged_again(database: Database) -> None:
    """It passed a rung, or was to be pruned there; then its worker died."""
    study = create(
        database,
        train_steps=64,
        max_attempts=9,
        pruner='{ name = "successive_halving", min_resource = 16, reduction_factor = 2 }',
    )
    store = open_store(study.artifacts, database)
    history = Curves(database, study.search_id)

    def reports(claim: Claim, curve: dict[int, float] | None = None, passed: int = 0) -> Reports:
        judge = study.spec.search.pruner.build(study.spec, claim.number)
        return Reports(
            database, claim, judge=judge, history=history, curve=curve or {}, passed=passed
        )

    def pruned(own: Reports, claim: Claim, value: float, step: int) -> bool:
        own.add(Evaluation(step=step, metrics={"return": np.array([value, value])}))
        own.flush()
        return own.pruned(database.optuna_storage(claim.fence))

    def rungs() -> set[str]:
        frozen = database.optuna_study(study.name).get_trials()[2]
        return {key for key in frozen.system_attrs if "rung" in key}

    for _ in range(2):
        claim = take(database)
        own = reports(claim)
        assert not any(pruned(own, claim, 100.0, step) for step in (16, 32, 48))
        finish(database, claim)
    claim = take(database)
    own = reports(claim)
    assert not pruned(own, claim, 200.0, 16)
    checkpoints.save(database, store, study, claim, step=16, data=b"state")
    # On from its checkpoint each time: lost once it has passed the next rung, then once it is to be
    # pruned there; at last it is pruned.
    for value, rung_stored in ((300.0, True), (1.0, False), (1.0, False)):
        assert pruned(own, claim, value, 32) == (value == 1.0)
        assert rungs() == {"completed_rung_0", *(["completed_rung_1"] if rung_stored else [])}
        expire(database)
        leases.reap(database, "trivial")
        claim = take(database)
        assert rungs() == {"completed_rung_0"}
        own = reports(claim, {16: 200.0}, passed=1)
    assert pruned(own, claim, 1.0, 32)
    finish(database, claim, state="PRUNED", system_attributes=own.attributes, sent=own.sent)
    assert rungs() == {"completed_rung_0", "completed_rung_1"}
