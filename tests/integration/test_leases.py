"""The trial's life: claim, extend, finish, release, reap. Time passes by moving it in SQL."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal
from uuid import uuid4

import optuna
import pytest
from sqlalchemy import text

from coordinator.create import create_or_join
from tests.support.studies import (
    LEASE,
    at_once,
    attribute,
    create,
    expire,
    extend,
    finish,
    outcomes,
    states,
    take,
    take_all,
    train_by_hand,
    trivial_spec,
)
from trialfleet.errors import LeaseLostError
from trialfleet.store import leases
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database

Open = Callable[[], Database]
Ending = Literal["COMPLETE", "PRUNED", "FAIL"]


def test_claims_start_new_trials_with_dense_numbers_and_growing_fences(database: Database) -> None:
    study = create(database, trials=3)
    claims = take_all(database)
    assert [claim.number for claim in claims] == [0, 1, 2]
    assert all(a.fence < b.fence for a, b in pairwise(claims))
    assert {(claim.stage, claim.attempt) for claim in claims} == {("search", 1)}
    assert states(database, study.search_id) == [(0, "RUNNING"), (1, "RUNNING"), (2, "RUNNING")]


def test_a_claim_takes_the_lowest_waiting_trial_before_a_new_one(database: Database) -> None:
    create(database, trials=5)
    claims = [take(database) for _ in range(4)]
    for given_back in (claims[3], claims[1]):
        leases.release(database, given_back)
    again = [take(database) for _ in range(3)]
    assert [claim.number for claim in again] == [1, 3, 4]
    assert [claim.trial_id for claim in again[:2]] == [claims[1].trial_id, claims[3].trial_id]
    assert [claim.attempt for claim in again] == [2, 2, 1]


def test_concurrent_workers_never_exceed_the_budget(open_database: Open) -> None:
    # A count before the insert, without the study's lock, lets several through at the last trial.
    databases = [open_database() for _ in range(8)]
    study = create(databases[0], trials=30)

    def work(database: Database) -> list[int]:
        numbers = []
        while claim := leases.claim(
            database, "trivial", worker="hand", claim_id=uuid4(), lease_seconds=LEASE
        ):
            numbers.append(claim.number)
            if claim.number % 3:
                finish(database, claim, state="PRUNED" if claim.number % 2 else "COMPLETE")
        return numbers

    taken = at_once(*[lambda database=database: work(database) for database in databases])
    assert sorted(number for numbers in taken for number in numbers) == list(range(30))
    assert [number for number, _ in states(databases[0], study.search_id)] == list(range(30))


def test_concurrent_workers_replace_every_failure_and_no_more(open_database: Open) -> None:
    databases = [open_database() for _ in range(8)]
    study = create(databases[0], trials=20, max_failures=100)

    def work(database: Database) -> None:
        while claim := leases.claim(
            database, "trivial", worker="hand", claim_id=uuid4(), lease_seconds=LEASE
        ):
            finish(database, claim, state="FAIL" if claim.number % 3 == 0 else "COMPLETE")

    at_once(*[lambda database=database: work(database) for database in databases])
    rows = states(databases[0], study.search_id)
    # A worker may find nothing to claim while another's trial is about to fail, so the last
    # replacements are whoever's asks next.
    work(databases[0])
    rows = states(databases[0], study.search_id)
    assert sum(state == "COMPLETE" for _, state in rows) == 20
    assert [number for number, _ in rows] == list(range(len(rows)))
    assert len(rows) == 20 + sum(number % 3 == 0 for number, _ in rows)


def test_concurrent_workers_share_released_trials_once_each(open_database: Open) -> None:
    databases = [open_database() for _ in range(8)]
    create(databases[0], trials=8)
    for claim in take_all(databases[0]):
        leases.release(databases[0], claim)
    taken = at_once(*[lambda database=database: take(database).number for database in databases])
    assert sorted(taken) == list(range(8))


def test_a_repeated_claim_is_the_same_lease(database: Database) -> None:
    study = create(database)
    claim_id = uuid4()

    def ask() -> Claim | None:
        return leases.claim(
            database, "trivial", worker="hand", claim_id=claim_id, lease_seconds=LEASE
        )

    first = ask()
    assert first is not None
    assert ask() == first
    assert states(database, study.search_id) == [(0, "RUNNING")]
    # One that came so late that the trial has ended meanwhile is no lease at all.
    finish(database, first)
    assert ask() is None
    assert states(database, study.search_id) == [(0, "COMPLETE")]


def test_the_same_claim_made_twice_at_once_is_one_lease(open_database: Open) -> None:
    databases = [open_database() for _ in range(8)]
    study = create(databases[0], trials=60)
    for number in range(60):  # one in twenty was two answers where the race was not kept
        claim_id = uuid4()
        claims = at_once(
            *[
                lambda database=database, claim_id=claim_id: leases.claim(
                    database, "trivial", worker="hand", claim_id=claim_id, lease_seconds=LEASE
                )
                for database in databases
            ]
        )
        assert len(set(claims)) == 1
        assert claims[0] is not None
        assert claims[0].number == number
    assert states(databases[0], study.search_id) == [(n, "RUNNING") for n in range(60)]


def test_extending_pushes_the_end_to_the_full_length_from_now(database: Database) -> None:
    create(database)
    claim = take(database)
    seconds_left = text(
        "SELECT extract(epoch FROM expires_at - now()) FROM fleet.attempts WHERE fence = :fence"
    )
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.attempts SET expires_at = now()"))
    # Expired, but nobody has taken it back yet.
    assert extend(database, claim)
    with database.transaction() as connection:
        left = connection.scalar(seconds_left, {"fence": claim.fence})
    assert left is not None
    assert LEASE - 5 < left <= LEASE


@pytest.mark.parametrize("ending", ["finished", "released", "lost"])
def test_an_ended_lease_is_not_extended(database: Database, ending: str) -> None:
    create(database)
    claim = take(database)
    if ending == "finished":
        finish(database, claim)
    elif ending == "released":
        leases.release(database, claim)
    else:
        expire(database)
        leases.reap(database, "trivial")
    assert not extend(database, claim)


def test_finishing_twice_changes_nothing(database: Database) -> None:
    study = create(database)
    claim = take(database)
    finish(database, claim, value=7.0, attributes={"scores": [7.0]})
    # The second try of a finish whose reply was lost; what it carries no longer matters.
    finish(database, claim, value=8.0, attributes={"scores": [8.0]})
    trial = database.optuna_study(study.name).get_trials()[0]
    assert (trial.value, trial.user_attrs) == (7.0, {"scores": [7.0]})
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    assert outcomes(database, claim) == ["finished"]


def test_a_pruned_or_failed_trial_may_have_no_value(database: Database) -> None:
    study = create(database)
    without_value: list[Ending] = ["PRUNED", "FAIL"]
    for state in without_value:
        leases.finish(database, take(database), state=state, attributes={})
    assert [trial.value for trial in database.optuna_study(study.name).get_trials()] == [None, None]


def test_releasing_twice_changes_nothing(database: Database) -> None:
    study = create(database)
    claim = take(database)
    leases.release(database, claim)
    leases.release(database, claim)
    assert states(database, study.search_id) == [(0, "WAITING")]
    assert outcomes(database, claim) == ["released"]


def test_a_second_release_leaves_the_next_attempt_alone(database: Database) -> None:
    study = create(database)
    claim = take(database)
    leases.release(database, claim)
    take(database)
    leases.release(database, claim)
    assert states(database, study.search_id) == [(0, "RUNNING")]
    assert outcomes(database, claim) == ["released", None]


@pytest.mark.parametrize("taken_again", [False, True])
@pytest.mark.parametrize("ending", ["COMPLETE", "PRUNED", "FAIL", "release"])
def test_no_ending_under_a_lost_lease(
    database: Database, ending: Literal["COMPLETE", "PRUNED", "FAIL", "release"], taken_again: bool
) -> None:
    study = create(database)
    claim = take(database)
    expire(database)
    leases.reap(database, "trivial")
    if taken_again:
        take(database)
    before = states(database, study.search_id)

    def end() -> None:
        if ending == "release":
            leases.release(database, claim)
        else:
            finish(database, claim, state=ending, attributes={"scores": [1.0]})

    with pytest.raises(LeaseLostError):
        end()
    assert states(database, study.search_id) == before
    assert attribute(database, claim, "scores") is None


def test_a_finished_trial_is_not_released_and_a_released_one_not_finished(
    database: Database,
) -> None:
    study = create(database)
    finished, released = take(database), take(database)
    finish(database, finished)
    leases.release(database, released)
    with pytest.raises(LeaseLostError):
        leases.release(database, finished)
    with pytest.raises(LeaseLostError):
        finish(database, released)
    assert states(database, study.search_id) == [(0, "COMPLETE"), (1, "WAITING")]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_attributes_that_json_lacks_are_refused_with_the_whole_finish(
    database: Database, value: float
) -> None:
    study = create(database)
    claim = take(database)
    with pytest.raises(ValueError, match="JSON"):
        finish(database, claim, attributes={"fine": 1, "scores": [value]})
    assert states(database, study.search_id) == [(0, "RUNNING")]
    assert attribute(database, claim, "fine") is None


def test_a_pruned_trial_counts_and_a_failed_one_is_replaced(database: Database) -> None:
    study = create(database, trials=3, top=1)
    outcomes: list[Ending] = ["PRUNED", "FAIL", "COMPLETE", "FAIL", "PRUNED"]
    for state in outcomes:
        finish(database, take(database), state=state)
    assert take_all(database) == []
    assert len(states(database, study.search_id)) == 5


def test_a_running_trial_holds_its_place_in_the_budget(database: Database) -> None:
    create(database, trials=2, top=1)
    first, _second = take_all(database)
    finish(database, first, state="FAIL")
    assert [claim.number for claim in take_all(database)] == [2]


def test_too_many_failures_stop_new_claims(database: Database) -> None:
    create(database, trials=10, max_failures=2)
    for _ in range(3):
        finish(database, take(database), state="FAIL")
    assert take_all(database) == []


def test_failures_up_to_the_limit_do_not_stop_claims(database: Database) -> None:
    create(database, trials=10, max_failures=2)
    for _ in range(2):
        finish(database, take(database), state="FAIL")
    assert len(take_all(database)) == 10


@pytest.mark.parametrize("stage", ["done", "failed"])
def test_an_ended_study_has_nothing_to_claim(database: Database, stage: str) -> None:
    create(database)
    leases.release(database, take(database))
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.studies SET stage = :stage"), {"stage": stage})
    assert take_all(database) == []


def test_stock_optuna_beside_us_neither_repeats_a_number_nor_breaks_the_budget(
    open_database: Open,
) -> None:
    ours, theirs = open_database(), open_database()
    study = create_or_join(ours, trivial_spec(trials=20))
    stock = theirs.optuna_study(study.name)

    def enqueue() -> None:
        for _ in range(10):
            stock.enqueue_trial({"gamma": 0.95})

    _, claims = at_once(enqueue, lambda: [take(ours) for _ in range(10)])
    claims += take_all(ours)
    assert sorted(claim.number for claim in claims) == list(range(20))
    assert states(ours, study.search_id) == [(number, "RUNNING") for number in range(20)]


def test_a_finished_trial_reads_like_any_other_in_optuna(database: Database) -> None:
    study = create(database, train_steps=32)
    train_by_hand(database, study, take(database), scores=[3.0, 5.0], early=1.0)
    trial = database.optuna_study(study.name).best_trial
    assert trial.state == optuna.trial.TrialState.COMPLETE
    assert trial.value == 4.0
    assert trial.intermediate_values == {16: 1.0, 32: 4.0}
    assert set(trial.params) == {"learning_rate", "gamma"}
