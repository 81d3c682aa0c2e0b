"""A study is stopped, extended, paused and resumed while others work on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy import text

from coordinator.create import create_or_join
from coordinator.watch import count, step
from tests.support.invariants import check_invariants
from tests.support.studies import (
    LEASE,
    at_once,
    create,
    finish,
    states,
    take,
    take_all,
    train_by_hand,
    trivial_spec,
)
from trialfleet.errors import LeaseLostError, SteeringError, StudyMismatchError
from trialfleet.store import leases, studies
from trialfleet.store.leases import Claim
from trialfleet.store.steering import course
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

Open = Callable[[], Database]


def train(database: Database, study: Study, claim: Claim) -> None:
    agents = 2
    if claim.stage == "final":
        trials = database.optuna_study(study.final_name).get_trials(deepcopy=False)
        agents = len(trials[claim.number].user_attrs["seeds"])
    train_by_hand(database, study, claim, scores=[float(claim.number)] * agents)


def to_the_end(database: Database, name: str = "trivial") -> Study:
    """Train whatever there is to claim, and look, until the study has ended."""
    for _ in range(20):
        study = studies.find(database, name)
        for claim in take_all(database, name):
            train(database, study, claim)
        if (study := step(database, name)).ended:
            return study
    raise AssertionError(f"still at {study.stage}")


def test_a_stop_waits_for_the_trials_under_way(database: Database) -> None:
    study = create(database, trials=6)
    done, under_way = take(database), take(database)
    train(database, study, done)
    study = course.stop(database, study, "enough for today")
    assert (study.stage, study.stopped, study.budget) == ("search", "enough for today", 6)
    assert take_all(database) == []
    assert step(database, study.name).stage == "search"
    train(database, study, under_way)
    study = step(database, study.name)
    assert (study.stage, study.budget) == ("final", 2)
    study = to_the_end(database)
    assert (study.stage, study.stopped) == ("done", "enough for today")
    check_invariants(database, study.name)


def test_a_trial_that_was_released_is_gone_on_with_after_a_stop(database: Database) -> None:
    study = create(database, trials=6)
    leases.release(database, take(database))
    course.stop(database, study, "by hand")
    train(database, study, take(database))
    study = to_the_end(database)
    assert study.budget == 1
    check_invariants(database, study.name)


def test_a_stop_at_once_ends_the_trials_under_way(database: Database) -> None:
    study = create(database, trials=6, max_failures=0)
    train(database, study, take(database))
    lost = take(database)
    course.stop(database, study, "first")
    study = course.stop(database, study, "second", now=True)
    assert study.stopped == "first"
    with pytest.raises(LeaseLostError):
        finish(database, lost)
    # What ended by the stop is none of the failures that the study may have: here, none at all.
    study = to_the_end(database)
    assert (study.stage, study.budget) == ("done", 1)
    assert states(database, study.search_id) == [(0, "COMPLETE"), (1, "FAIL")]
    check_invariants(database, study.name)


def test_a_search_that_was_stopped_before_any_trial_was_completed_fails(
    database: Database,
) -> None:
    study = create(database)
    course.stop(database, study, "a mistake")
    study = step(database, study.name)
    assert study.stage == "failed"
    assert study.reason is not None
    assert study.reason.endswith("nothing to retrain (the search was stopped: a mistake)")
    with pytest.raises(SteeringError, match="is over"):
        course.stop(database, study, "again")


def test_a_live_search_is_extended(database: Database) -> None:
    study = create(database, trials=2)
    claims = take_all(database)
    study = course.extend(database, study, 4)
    assert (study.budget, study.spec.search.trials) == (4, 2)
    claims += take_all(database)
    assert [claim.number for claim in claims] == [0, 1, 2, 3]
    for claim in claims:
        train(database, study, claim)
    study = to_the_end(database)
    check_invariants(database, study.name)
    # Whoever has the file it was created from joins, and so does who asks for what it has now.
    for trials in (2, 4):
        assert create(database, trials=trials).search_id == study.search_id
    with pytest.raises(StudyMismatchError, match=r"search.trials: 2 there, 3 here"):
        create(database, trials=3)


@pytest.mark.parametrize("trials", [1, 2])
def test_an_extension_needs_more_trials_than_there_are(database: Database, trials: int) -> None:
    study = create(database, trials=2)
    with pytest.raises(SteeringError, match=f"--trials: {trials} is not more than the 2 that"):
        course.extend(database, study, trials)


def test_a_finished_study_goes_on_and_has_another_final_stage(database: Database) -> None:
    study = create(database, trials=2, top=2, final_seeds=3)
    first = to_the_end(database)
    assert first.result is not None
    study = course.extend(database, study, 4)
    assert (study.stage, study.final_id, study.result) == ("search", None, None)
    study = to_the_end(database)
    check_invariants(database, study.name)
    assert study.result is not None
    assert states(database, study.search_id) == [(n, "COMPLETE") for n in range(4)]
    # Trials 2 and 3 have the higher scores; their seeds are other ones than those of 0 and 1.
    assert [row["trial"] for row in study.result["finalists"]] == [3, 2]
    old, new = (
        {seed for row in each.result["finalists"] for seed in row["seeds"]}
        for each in (first, study)
        if each.result is not None
    )
    assert (len(old), len(new), old & new) == (6, 6, set())
    assert first.result["model"]["artifact"] != study.result["model"]["artifact"]
    with database.transaction() as connection:
        (former,) = connection.execute(text("SELECT * FROM fleet.former_finals"))
        names = list(connection.scalars(text("SELECT study_name FROM studies ORDER BY study_id")))
    assert (former.final_id, former.edition, former.budget) == (first.final_id, 0, 2)
    assert former.result == first.result
    assert names == ["trivial", "trivial.final.1", "trivial.final"]


def test_a_final_stage_under_way_ends_with_an_extension(database: Database) -> None:
    study = create(database, trials=2)
    for claim in take_all(database):
        train(database, study, claim)
    former = step(database, study.name)
    lost = take(database)
    study = course.extend(database, former, 3)
    with pytest.raises(LeaseLostError):
        finish(database, lost)
    assert former.final_id is not None
    assert {state for _, state in states(database, former.final_id)} == {"FAIL"}
    check_invariants(database, to_the_end(database).name)


def test_what_an_extension_took_the_place_of_stays_and_goes_with_its_study(
    database: Database,
) -> None:
    study = create(database, trials=2)
    first = to_the_end(database)
    course.extend(database, study, 3)
    to_the_end(database)
    with database.transaction() as connection, pytest.raises(Exception, match="finished is final"):
        connection.execute(
            text("UPDATE trials SET state = 'FAIL' WHERE study_id = :id"), {"id": first.final_id}
        )
    database.optuna_storage().delete_study(study.search_id)
    with database.transaction() as connection:
        for table in ("studies", "trials", "fleet.former_finals", "fleet.blobs"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table


def test_a_study_that_was_stopped_is_extended(database: Database) -> None:
    study = create(database, trials=4)
    train(database, study, take(database))
    study = course.stop(database, study, "a rule")
    with pytest.raises(SteeringError, match="1 is not more than the 1 that"):
        course.extend(database, study, 1)
    study = course.extend(database, study, 3)
    assert (study.stopped, study.rules, study.budget) == (None, False, 3)
    study = to_the_end(database)
    assert count(database, study.search_id).counted == 3
    check_invariants(database, study.name)


def test_a_study_with_too_many_failures_is_not_extended(database: Database) -> None:
    study = create(database, max_failures=0)
    finish(database, take(database), state="FAIL")
    study = step(database, study.name)
    with pytest.raises(SteeringError, match=r"\(0\); `trialfleet retry trivial` goes on"):
        course.extend(database, study, 9)


def fail(database: Database, count: int) -> None:
    for _ in range(count):
        finish(database, take(database), state="FAIL")


def test_a_failed_study_goes_on_after_a_retry_and_keeps_its_budget(database: Database) -> None:
    study = create(database, trials=4, max_failures=1)
    train(database, study, take(database))
    before = database.trials(study.search_id)
    fail(database, 2)
    study = step(database, study.name)
    assert study.stage == "failed"
    study = course.retry(database, study)
    assert (study.stage, study.reason, study.max_failures) == ("search", None, 3)
    fail(database, 1)
    assert step(database, study.name).stage == "search", "two failed before the retry"
    fail(database, 1)
    assert step(database, study.name).stage == "failed", "and two have failed after it"
    course.retry(database, study)
    study = to_the_end(database)
    counts = count(database, study.search_id)
    assert (study.stage, counts.counted, counts.failed) == ("done", 4, 4)
    assert database.trials(study.search_id)[:1] == before
    check_invariants(database, study.name)


def test_a_study_all_of_whose_finalists_failed_gets_another_final_stage(
    database: Database,
) -> None:
    study = create(database, trials=2, top=1, final_seeds=2)
    for claim in take_all(database):
        train(database, study, claim)
    first = step(database, study.name)
    fail(database, 1)
    study = step(database, study.name)
    assert study.stage == "failed"
    study = course.retry(database, study)
    assert (study.final_id, study.finals) == (None, 1)
    study = to_the_end(database)
    assert study.stage == "done"
    assert first.final_id is not None
    assert study.final_id is not None
    seeds = [
        database.trials(final_id)[0].user_attrs["seeds"]
        for final_id in (first.final_id, study.final_id)
    ]
    assert not {*seeds[0]} & {*seeds[1]}, "whoever retries has seen what they came to"
    check_invariants(database, study.name)


def test_what_cannot_be_retried_says_what_to_do(database: Database) -> None:
    study = create(database, trials=2, top=1)
    with pytest.raises(SteeringError, match="has not failed"):
        course.retry(database, study)
    for claim in take_all(database):
        finish(database, claim, state="PRUNED")
    study = step(database, study.name)
    assert study.stage == "failed"
    with pytest.raises(SteeringError, match="trialfleet extend trivial --trials 3"):
        course.retry(database, study)
    assert course.extend(database, study, 3).stage == "search"


def test_two_that_retry_at_once_count_the_failures_once(open_database: Open) -> None:
    databases = [open_database() for _ in range(3)]
    study = create(databases[0], trials=4, max_failures=1)
    fail(databases[0], 2)
    study = step(databases[0], study.name)

    def retry(database: Database) -> int:
        try:
            return course.retry(database, study).max_failures
        except SteeringError:  # somebody was faster
            return 0

    found = at_once(*(partial(retry, database) for database in databases))
    assert sorted(found) == [0, 0, 3]


def test_nothing_is_claimed_while_a_study_is_paused(database: Database) -> None:
    study = create(database, trials=2)
    under_way = take(database)
    course.pause(database, study)
    course.pause(database, study)
    assert studies.find(database, study.name).paused
    assert take_all(database) == []
    train(database, study, under_way)
    assert step(database, study.name).stage == "search"
    course.resume(database, study)
    course.resume(database, study)
    assert not studies.find(database, study.name).paused
    study = to_the_end(database)
    check_invariants(database, study.name)
    for steer in (course.pause, course.resume):
        with pytest.raises(SteeringError, match="has ended"):
            steer(database, study)


def test_a_claim_whose_reply_was_lost_is_repeated_though_the_study_is_paused(
    database: Database,
) -> None:
    study = create(database)
    claim_id = uuid4()

    def claim() -> Claim | None:
        return leases.claim(
            database, study.name, worker="hand", claim_id=claim_id, lease_seconds=LEASE
        )

    first = claim()
    course.pause(database, study)
    assert first is not None
    assert claim() == first


def test_claims_extensions_and_a_stop_at_once_keep_the_budget(open_database: Open) -> None:
    """Many workers claim and finish while others extend, look, and at last stop the study."""
    databases = [open_database() for _ in range(6)]
    study = create_or_join(databases[0], trivial_spec(trials=3, top=1, final_seeds=1))

    def work(database: Database) -> None:
        for _ in range(12):
            claim = leases.claim(
                database, study.name, worker="hand", claim_id=uuid4(), lease_seconds=LEASE
            )
            if claim is not None:
                train(database, studies.find(database, study.name), claim)
            if database is databases[1]:  # it leads
                step(database, study.name)

    def steer(database: Database) -> None:
        for trials in range(4, 30, 2):
            with suppress(SteeringError):  # it has come further by itself
                course.extend(database, study, trials)
        course.stop(database, study, "enough")

    at_once(
        *[lambda database=database: work(database) for database in databases[1:]],
        lambda: steer(databases[0]),
    )
    ended = to_the_end(databases[0])
    assert ended.stage == "done"
    check_invariants(databases[0], study.name)
