"""One process with two leases: every write obeys the fence of its own."""

from __future__ import annotations

import optuna
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.support.studies import create, expire, finish, states, take
from trialfleet.postgres.outages import lease_was_lost
from trialfleet.store import leases
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import life

ATTRIBUTES = text(
    "SELECT key FROM public.trial_user_attributes WHERE trial_id = :trial_id ORDER BY key"
)


def live(database: Database, study: Study, claim: Claim) -> optuna.Trial:
    storage = database.optuna_storage(claim.fence)
    return optuna.Trial(database.optuna_study(study.name, storage=storage), claim.trial_id)


def attributes(database: Database, claim: Claim) -> list[str]:
    with database.transaction() as connection:
        return list(connection.scalars(ATTRIBUTES, {"trial_id": claim.trial_id}))


def test_writes_of_two_leases_may_take_turns(database: Database) -> None:
    study = create(database)
    claims = take(database), take(database)
    trials = [live(database, study, claim) for claim in claims]
    for turn in range(3):
        for trial in trials:
            trial.set_user_attr(f"turn {turn}", trial.number)
            trial.report(float(turn), turn)
    for claim, trial in zip(claims, trials, strict=True):
        assert attributes(database, claim) == ["turn 0", "turn 1", "turn 2"]
        with pytest.raises(DBAPIError) as refused:
            trial.storage.set_trial_user_attr(
                next(c.trial_id for c in claims if c is not claim), "stolen", 1
            )
        assert lease_was_lost(refused.value)
    for claim in claims:
        finish(database, claim)
    assert states(database, study.search_id) == [(0, "COMPLETE"), (1, "COMPLETE")]


def test_the_loss_of_one_lease_leaves_the_other_alone(database: Database) -> None:
    study = create(database)
    lost, kept = take(database), take(database)
    trial_lost, trial_kept = live(database, study, lost), live(database, study, kept)
    trial_lost.set_user_attr("before", 1)
    trial_kept.set_user_attr("before", 1)
    expire(database, lost.fence)
    assert [each.number for each in leases.reap(database, study.name)] == [lost.number]
    for _ in range(2):
        with pytest.raises(DBAPIError) as refused:
            trial_lost.set_user_attr("after", 1)
        assert lease_was_lost(refused.value)
        trial_kept.set_user_attr("after", 1)
    # Both transactions open at once on connections of the one pool.
    write = text("UPDATE public.trials SET datetime_start = now() WHERE trial_id = :trial_id")
    with (
        database.transaction(kept.fence) as ours,
        database.transaction() as fenceless,
    ):
        ours.execute(write, {"trial_id": kept.trial_id})
        life.steer(fenceless)
        fenceless.execute(write, {"trial_id": lost.trial_id})
        ours.execute(write, {"trial_id": kept.trial_id})
    assert attributes(database, lost) == ["before"]
    assert attributes(database, kept) == ["after", "before"]
    finish(database, kept)
    assert states(database, study.search_id) == [(0, "WAITING"), (1, "COMPLETE")]
