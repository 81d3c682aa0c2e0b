"""Opening a trial: one transaction for all that the sampler suggests, one for each report."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.support.studies import create, take
from trialfleet.postgres.outages import lease_was_lost
from trialfleet.search import space
from trialfleet.store import leases
from trialfleet.store.leases import Claim
from trialfleet.store.optuna.storage import Storage
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study


def opened(database: Database, study: Study, claim: Claim) -> optuna.Trial:
    return opened_in(database.optuna_storage(claim.fence), database, study, claim)


def opened_in(storage: Storage, database: Database, study: Study, claim: Claim) -> optuna.Trial:
    return optuna.Trial(database.optuna_study(study.name, storage=storage), claim.trial_id)


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
    with storage.opening(claim.trial_id):
        trial = opened_in(storage, database, study, claim)
        suggested = space.suggest(trial, study.spec.agent)
        assert stored(other, claim) == 0
    assert stored(other, claim) == 2
    assert trial.params == opened(other, study, claim).params
    again = opened_in(storage, database, study, claim)
    with storage.opening(claim.trial_id):
        assert space.suggest(again, study.spec.agent) == suggested


def test_an_opening_that_fails_stores_nothing_and_the_next_one_is_whole(database: Database) -> None:
    study = create(database)
    claim = take(database)

    def interrupted() -> None:
        storage = database.optuna_storage(claim.fence)
        with storage.opening(claim.trial_id):
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
        with storage.opening(claim.trial_id):
            space.suggest(opened_in(storage, database, study, claim), study.spec.agent)
            leases.release(other, claim)

    with pytest.raises(DBAPIError) as refusal:
        lost_on_the_way()
    assert lease_was_lost(refusal.value)
    assert stored(other, claim) == 0
