"""Opening a trial: one transaction for all that the sampler suggests, one for each report."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from sqlalchemy import text

from tests.support.studies import create, take
from trialfleet.postgres.outages import lease_was_lost
from trialfleet.search import space
from trialfleet.store import leases, metrics
from trialfleet.store.leases import Claim
from trialfleet.store.metrics import Metric
from trialfleet.store.storage import Database, Storage
from trialfleet.store.studies import Study
from trialfleet.store.trials.optuna_rows import note_report, report


def opened(database: Database, study: Study, claim: Claim) -> optuna.Trial:
    return opened_in(database.optuna_storage(claim.fence), database, study, claim)


def opened_in(storage: Storage, database: Database, study: Study, claim: Claim) -> optuna.Trial:
    return database.optuna_trial(database.optuna_study(study.name, storage=storage), claim.trial_id)


def stored(database: Database, claim: Claim) -> int:
    """How many parameters of the trial are in the database."""
    counted = text("SELECT count(*) FROM public.trial_params WHERE trial_id = :trial_id")
    with database.transaction() as connection:
        return int(connection.scalar(counted, {"trial_id": claim.trial_id}) or 0)


def test_what_is_suggested_is_stored_together_and_read_back(
    open_database: Callable[[], Database],
) -> None:
    database, other = open_database(), open_database()
    study = create(database)
    claim = take(database)
    storage = database.optuna_storage(claim.fence)
    with storage.opening():
        trial = opened_in(storage, database, study, claim)
        suggested = space.suggest(trial, study.spec.agent)
        assert stored(other, claim) == 0
    assert stored(other, claim) == 2
    assert trial.params == opened(other, study, claim).params
    again = opened_in(storage, database, study, claim)
    with storage.opening():
        assert space.suggest(again, study.spec.agent) == suggested


def test_an_opening_that_fails_stores_nothing_and_the_next_one_is_whole(database: Database) -> None:
    study = create(database)
    claim = take(database)

    def interrupted() -> None:
        storage = database.optuna_storage(claim.fence)
        with storage.opening():
            space.suggest(opened_in(storage, database, study, claim), study.spec.agent)
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        interrupted()
    assert stored(database, claim) == 0
    space.suggest(opened(database, study, claim), study.spec.agent)
    assert stored(database, claim) == 2


def test_a_trial_lost_while_it_was_opened_gets_no_parameters(
    open_database: Callable[[], Database],
) -> None:
    database, other = open_database(), open_database()
    study = create(database)
    claim = take(database)

    def lost_on_the_way() -> None:
        storage = database.optuna_storage(claim.fence)
        with storage.opening():
            space.suggest(opened_in(storage, database, study, claim), study.spec.agent)
            leases.release(other, claim)

    with pytest.raises(optuna.exceptions.StorageInternalError) as refusal:
        lost_on_the_way()
    assert lease_was_lost(refusal.value)
    assert stored(other, claim) == 0


def test_a_report_and_its_metrics_are_written_both_or_not_at_all(database: Database) -> None:
    study = create(database, train_steps=32)
    claim = take(database)
    trial = opened(database, study, claim)

    def point(step: int) -> Metric:
        return Metric(step=step, name="return", values=[6.0, 8.0])

    def write(step: int, *, fail: bool) -> None:
        with database.transaction(claim.fence) as connection:
            report(connection, database, trial, 7.0, step)
            metrics.write(connection, claim.trial_id, [point(step)])
            if fail:
                raise ConnectionResetError

    write(16, fail=False)
    write(16, fail=False)  # its reply was lost, say
    note_report(trial, 7.0, 16)
    with pytest.raises(ConnectionResetError):
        write(32, fail=True)
    frozen = database.optuna_study(study.name).trials[0]
    assert frozen.intermediate_values == {16: 7.0}
    assert metrics.read(database, study.search_id, "return") == {0: [(16, [6.0, 8.0])]}
