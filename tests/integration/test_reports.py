"""Reports commit without waiting for the disk; what a crash of the server loses is sent again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.support.studies import create, expire, send, take
from trialfleet.errors import LeaseLostError, StudyDeletedError
from trialfleet.postgres.outages import lease_was_lost
from trialfleet.store import leases, metrics
from trialfleet.store.leases import Claim
from trialfleet.store.optuna.history import Curves
from trialfleet.store.storage import Database
from worker.reports import Reports
from worker.trainers.protocol import Evaluation


def reports(database: Database, claim: Claim, study_id: int) -> Reports:
    history = Curves(database, study_id)
    return Reports(database, claim, judge=None, history=history, curve={})


def evaluation(step: int) -> Evaluation:
    values = np.array([float(step), step + 2.0])
    return Evaluation(step=step, metrics={"return": values, "loss": values / 7})


def lose(database: Database, claim: Claim, *, after: int) -> None:
    """Do what a crash does to transactions whose log had not reached the disk."""
    with database.transaction(claim.fence) as connection:
        for statement in (
            "DELETE FROM public.trial_intermediate_values i"
            " WHERE i.trial_id = :trial AND i.step > :after",
            "DELETE FROM fleet.metrics WHERE trial_id = :trial AND step > :after",
            "UPDATE fleet.attempts SET step = :after WHERE trial_id = :trial",
        ):
            connection.execute(text(statement), {"trial": claim.trial_id, "after": after})


def stored(database: Database, study_id: int) -> dict[str, list[int]]:
    trial = database.optuna_storage().get_all_trials(study_id)[0]
    curve = metrics.read(database, study_id, "loss").get(0, [])
    return {"reports": sorted(trial.intermediate_values), "losses": [step for step, _ in curve]}


def test_lost_reports_are_sent_again_with_the_next_one(database: Database) -> None:
    study = create(database, train_steps=64)
    claim = take(database)
    own = reports(database, claim, study.search_id)
    for step in (16, 32, 48):
        own.add(evaluation(step))
        own.flush()
    lose(database, claim, after=16)
    own.add(evaluation(64))
    own.flush()
    every = [16, 32, 48, 64]
    assert stored(database, study.search_id) == {"reports": every, "losses": every}
    assert own.sent == 64


def test_a_trial_is_not_finished_without_its_reports(database: Database) -> None:
    study = create(database, train_steps=32)
    claim = take(database)
    own = reports(database, claim, study.search_id)
    for step in (16, 32):
        own.add(evaluation(step))
        own.flush()
    lose(database, claim, after=0)

    def finished() -> bool:
        return leases.finish(
            database, claim, state="COMPLETE", values=[1.0], attributes={}, sent=own.sent
        )

    assert not finished()
    own.send_again()
    assert stored(database, study.search_id)["reports"] == [16, 32]
    assert finished()
    assert finished()  # its reply was lost, say


def test_a_report_extends_the_lease_and_is_refused_without_one(database: Database) -> None:
    study = create(database, train_steps=48)
    claim = take(database)
    own = reports(database, claim, study.search_id)
    expire(database)
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.attempts SET lease = interval '1 hour'"))
    own.add(evaluation(16))
    own.flush()
    with database.transaction() as connection:
        alive = "SELECT expires_at > now() + interval '59 minutes' FROM fleet.attempts"
        assert connection.scalar(text(alive))
    expire(database)
    leases.reap(database, study.name)
    own.add(evaluation(32))
    with pytest.raises(LeaseLostError):
        own.flush()
    assert stored(database, study.search_id)["reports"] == [16]
    database.optuna_storage().delete_study(study.search_id)
    with pytest.raises(StudyDeletedError):
        own.flush()


METRIC = text("INSERT INTO fleet.metrics VALUES (:trial_id, 'loss', 99, '{1}')")
REPORT = text("SELECT fleet.report(:fence, :trial_id, 0, '{16}', '{1}', '{}', '{}', '{}')")
NO_FENCE = text("SELECT set_config('fleet.fence', '', true)")


def test_what_follows_a_report_in_its_transaction_is_looked_at_again(database: Database) -> None:
    """The report has looked at the lease for its own rows alone."""
    create(database)
    claim = take(database)
    values = {"fence": claim.fence, "trial_id": claim.trial_id}
    with database.engine.connect() as connection:
        connection.execute(REPORT, values)
        connection.execute(NO_FENCE)
        with pytest.raises(DBAPIError) as caught:
            connection.execute(METRIC, values)
    assert lease_was_lost(caught.value)


def test_a_report_is_refused_for_a_trial_that_has_finished_or_is_not_its_own(
    database: Database,
) -> None:
    study = create(database, trials=2)
    claim, other = take(database), take(database)
    with pytest.raises(LeaseLostError):
        send(database, replace(claim, trial_id=other.trial_id), 16, [1.0])
    # By Optuna, under the lease, which is still open.
    storage = database.optuna_storage(claim.fence)
    storage.set_trial_state_values(claim.trial_id, TrialState.PRUNED)
    with pytest.raises(LeaseLostError, match="PRUNED"):
        send(database, claim, 16, [1.0])
    assert metrics.read(database, study.search_id, "return") == {}


def test_a_report_does_not_wait_for_the_disk_and_an_ending_does(database: Database) -> None:
    create(database)
    claim = take(database)
    modes = []
    with database.transaction() as connection:
        for call in (
            "SELECT fleet.report(:fence, :trial, 0, '{16}', '{1}', '{}', '{}', '{}')",
            "SELECT fleet.finish(:fence, :trial, 16, 'COMPLETE', '{1}', '{}', '{}', '{}', '{}')",
        ):
            connection.execute(text("SET LOCAL synchronous_commit = on"))
            connection.execute(text(call), {"fence": claim.fence, "trial": claim.trial_id})
            modes.append(connection.scalar(text("SELECT current_setting('synchronous_commit')")))
    assert modes == ["off", "on"]
