"""The coordinator's steps through a study's life; the trials are finished by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

import coordinator.watch
from coordinator.lead import Leadership
from coordinator.status import as_dict, finished, snapshot
from coordinator.watch import count, step, watch
from tests.support.invariants import check_invariants
from tests.support.studies import (
    at_once,
    create,
    expire,
    extend,
    finish,
    send,
    states,
    take,
    take_all,
    train_by_hand,
)
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import StudyFailedError
from trialfleet.settings import Settings
from trialfleet.store import leases, studies
from trialfleet.store.artifacts import checkpoints
from trialfleet.store.steering import course
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.reading import Counts

Open = Callable[[], Database]
SETTINGS = Settings(poll_seconds=0.05, outage_patience=0.0)


def never(_seconds: float) -> None:
    raise AssertionError("there is nothing to wait for")


def train_all(database: Database, study: Study) -> None:
    """Complete everything that there is to claim."""
    claims = take_all(database)
    began = any(claim.stage == "final" for claim in claims)
    trials = database.optuna_study(study.final_name).get_trials() if began else []
    for claim in claims:
        agents = len(trials[claim.number].user_attrs["seeds"]) if claim.stage == "final" else 2
        train_by_hand(database, study, claim, scores=[float(claim.number)] * agents)


def go_on(database: Database) -> Callable[[float], object]:
    """A pause in which the trials at hand are trained."""
    return lambda _seconds: train_all(database, studies.find(database, "trivial"))


def test_a_lost_trial_is_logged_once(database: Database) -> None:
    study = create(database)
    claim = take(database)
    expire(database)
    with capture_logs() as logs:
        step(database, study.name)
    told = [each for each in logs if each["event"] == "took back a lost trial"]
    assert [(each["trial"], each["now"]) for each in told] == [(claim.number, "WAITING")]


def test_a_study_goes_from_search_to_final_to_done(database: Database) -> None:
    study = create(database, trials=4, top=2, final_seeds=3)
    assert step(database, study.name).stage == "search"
    claim = take(database)
    train_by_hand(database, study, claim, scores=[1.0, 2.0])
    assert step(database, study.name).stage == "search"
    claims = take_all(database)
    for each in claims[:-1]:
        train_by_hand(database, study, each, scores=[3.0, 4.0])
    # All but the last have ended: there is nothing to claim, and yet the search is not over.
    assert step(database, study.name).stage == "search"
    train_by_hand(database, study, claims[-1], scores=[5.0, 6.0])
    study = step(database, study.name)
    assert study.stage == "final"
    assert count(database, study.final_id or 0).waiting == 4
    train_all(database, study)
    study = step(database, study.name)
    assert (study.stage, study.ended, study.reason) == ("done", True, None)
    assert study.result is not None
    check_invariants(database, study.name)


def test_the_end_leaves_no_checkpoint(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even that of a trial that ends while the coordinator is looking."""
    study = create(database, trials=1, top=1, final_seeds=1)
    train_all(database, study)
    study = step(database, study.name)
    claim = take(database)
    store = open_store(study.artifacts, database)
    checkpoints.save(database, store, study, claim, step=8, data=b"half way")
    look = coordinator.watch._look_at_final

    def look_late(database: Database, study: Study) -> None:
        train_by_hand(database, study, claim, scores=[1.0])
        look(database, study)

    monkeypatch.setattr(coordinator.watch, "_look_at_final", look_late)
    assert step(database, study.name).stage == "done"
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM fleet.checkpoints")) == 0
        blobs = text("SELECT count(*) FROM fleet.blobs WHERE blob_id LIKE '%-checkpoint-%'")
        assert connection.scalar(blobs) == 0


def test_watching_ends_with_the_study(database: Database) -> None:
    create(database)
    study = watch(database, "trivial", settings=SETTINGS, pause=go_on(database))
    assert study.stage == "done"
    check_invariants(database, "trivial")
    # And again, at once: it has ended.
    again = watch(database, "trivial", settings=SETTINGS, pause=never)
    assert again.result == study.result


def test_the_end_is_final(database: Database) -> None:
    create(database)
    study = watch(database, "trivial", settings=SETTINGS, pause=go_on(database))
    assert step(database, "trivial").result == study.result
    assert take_all(database) == []


def test_a_lost_trial_is_taken_back_without_any_worker_asking(database: Database) -> None:
    study = create(database, trials=1, top=1)
    take(database)
    expire(database)
    step(database, "trivial")
    # The last trial of the study, too.
    assert states(database, study.search_id) == [(0, "WAITING")]


def test_a_lost_trial_of_the_final_stage_is_taken_back(database: Database) -> None:
    create(database, trials=1, top=1, final_seeds=1)
    train_all(database, studies.find(database, "trivial"))
    study = step(database, "trivial")
    take(database)
    expire(database)
    study = step(database, "trivial")
    assert study.stage == "final"
    assert states(database, study.final_id or 0) == [(0, "WAITING")]
    study = watch(database, "trivial", settings=SETTINGS, pause=go_on(database))
    assert study.stage == "done"
    check_invariants(database, "trivial")


def test_too_many_failures_end_the_study_with_its_reasons_and_nothing_pending(
    database: Database,
) -> None:
    study = create(database, trials=10, max_failures=2)
    running, waiting, complete = take(database), take(database), take(database)
    train_by_hand(database, study, complete, scores=[1.0, 2.0])
    for number in range(3):
        finish(database, take(database), state="FAIL", attributes={"reason": f"NaN in {number}"})
        expected = "search" if number < 2 else "failed"
        extend(database, running)
        if number == 2:
            leases.release(database, waiting)
        assert step(database, "trivial").stage == expected

    def watch_it() -> Study:
        return watch(database, "trivial", settings=SETTINGS, pause=never)

    with pytest.raises(StudyFailedError) as failed:
        watch_it()
    message = str(failed.value)
    assert "3 trials failed" in message
    # The newest first, each with its number and its reason.
    assert "trial 5: NaN in 2; trial 4: NaN in 1; trial 3: NaN in 0" in message
    assert [state for _, state in states(database, study.search_id)] == [
        "FAIL",
        "FAIL",
        "COMPLETE",
        "FAIL",
        "FAIL",
        "FAIL",
    ]
    check_invariants(database, "trivial")
    assert take_all(database) == []
    # Whoever was at work on it learns at once that it is over.
    assert not extend(database, running)


def test_a_study_that_fails_the_same_way_from_the_start_ends_early(database: Database) -> None:
    create(database, trials=20, max_failures=10)
    for number in range(3):
        assert step(database, "trivial").stage == "search"
        reason = {"reason": f"ValueError: seed {900 + number} is too large (mine.py:12)"}
        finish(database, take(database), state="FAIL", attributes=reason)
    study = step(database, "trivial")
    assert study.stage == "failed"
    assert study.reason == (
        "each of 3 trials failed, and all alike: ValueError: seed 902 is too large (mine.py:12)"
    )
    check_invariants(database, "trivial")
    # After a retry, as many are enough again; what failed before it is not among them.
    course.retry(database, study)
    for _ in range(2):
        finish(database, take(database), state="FAIL", attributes={"reason": "KeyError: 'lr'"})
    assert step(database, "trivial").stage == "search"
    finish(database, take(database), state="FAIL", attributes={"reason": "KeyError: 'lr'"})
    assert step(database, "trivial").stage == "failed"


@pytest.mark.parametrize("why", ["another reason", "one counts", "one evaluates", "many at work"])
def test_a_study_does_not_end_early_while_it_may_be_worth_it(database: Database, why: str) -> None:
    study = create(database, trials=20, max_failures=10, train_steps=32)
    if why == "one counts":
        train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    if why == "one evaluates":
        send(database, take(database), 16, [1.0, 2.0])
    if why == "many at work":
        for _ in range(4):
            take(database)
    for number in range(4):
        reason = "it broke" if why != "another reason" or number else "it was broken"
        finish(database, take(database), state="FAIL", attributes={"reason": reason})
    assert step(database, "trivial").stage == "search"


def test_failures_up_to_the_limit_are_replaced(database: Database) -> None:
    create(database, trials=3, max_failures=2)
    for _ in range(2):
        finish(database, take(database), state="FAIL")
    study = watch(database, "trivial", settings=SETTINGS, pause=go_on(database))
    assert study.stage == "done"
    counts = count(database, study.search_id)
    assert (counts.complete, counts.failed) == (3, 2)
    check_invariants(database, "trivial")


def test_a_search_that_completes_nothing_fails(database: Database) -> None:
    create(database, trials=2, top=1)
    for claim in take_all(database):
        finish(database, claim, state="PRUNED")
    study = step(database, "trivial")
    assert study.stage == "failed"
    assert study.reason is not None
    assert "no trial was completed" in study.reason


def test_a_final_stage_whose_every_finalist_fails_fails_with_the_reasons(
    database: Database,
) -> None:
    create(database, trials=2, top=2, final_seeds=2)
    train_all(database, studies.find(database, "trivial"))
    step(database, "trivial")
    for claim in take_all(database):
        finish(database, claim, state="FAIL", attributes={"reason": "out of memory"})
    study = step(database, "trivial")
    assert study.stage == "failed"
    assert study.reason is not None
    assert "out of memory" in study.reason
    check_invariants(database, "trivial")


def test_many_coordinators_at_once_take_the_same_steps_once(open_database: Open) -> None:
    databases = [open_database() for _ in range(4)]
    study = create(databases[0], trials=4, top=2, final_seeds=3)

    def step_all() -> set[str]:
        found: list[Any] = at_once(
            *[lambda database=database: step(database, "trivial") for database in databases]
        )
        return {each.stage for each in found}

    train_all(databases[0], study)
    assert step_all() <= {"search", "final"}
    study = step(databases[0], "trivial")
    assert len(states(databases[0], study.final_id or 0)) == 4
    train_all(databases[0], study)
    databases = databases[:2]
    assert step_all() == {"done"}
    check_invariants(databases[0], "trivial")


def test_one_coordinator_leads_and_the_next_one_follows_it(open_database: Open) -> None:
    first, second = open_database(), open_database()
    create(first)
    leader = Leadership(first, "trivial", lease_seconds=30.0)
    other = Leadership(second, "trivial", lease_seconds=30.0)
    assert leader.hold()
    assert not other.hold()
    assert leader.hold()
    with first.transaction() as connection:
        connection.execute(text("UPDATE fleet.leaders SET expires_at = now() - interval '1 s'"))
    assert other.hold()
    assert not leader.hold()
    # Resigning from what one does not hold takes nothing from the leader.
    leader.resign()
    assert not leader.hold()
    other.resign()
    assert leader.hold()


def test_a_coordinator_beside_the_leader_stands_by_until_the_end(open_database: Open) -> None:
    first, second = open_database(), open_database()
    create(first, trials=1, top=1)
    leader = Leadership(first, "trivial", lease_seconds=30.0)
    leader.hold()
    train_all(first, studies.find(first, "trivial"))
    looks = 0

    def pause(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks <= 3:
            # It has looked, and has left the search that is over to the leader.
            assert studies.find(first, "trivial").stage == "search"
        else:
            step(first, "trivial")
            train_all(first, studies.find(first, "trivial"))

    assert watch(second, "trivial", settings=SETTINGS, pause=pause).stage == "done"
    assert not Leadership(second, "trivial", lease_seconds=30.0).hold()


def test_the_snapshot_tells_where_a_study_stands(database: Database) -> None:
    study = create(database, trials=4, top=2, final_seeds=3)
    shot = snapshot(database, study)
    assert (shot.best, shot.final, shot.final_trials, shot.eta) == (None, None, 4, None)
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    train_by_hand(database, study, take(database), scores=[3.0, 4.0])
    finish(database, take(database), state="PRUNED", value=9.0)
    finish(database, take(database), state="FAIL", attributes={"reason": "it burned"})
    leases.release(database, take(database))
    told = as_dict(snapshot(database, study))
    assert told["search"] == {
        "complete": 2,
        "pruned": 1,
        "failed": 1,
        "running": 0,
        "waiting": 1,
        "counted": 3,
    }
    # A pruned trial's value is no score.
    assert told["best"] == {"trial": 1, "score": 3.5}
    assert [
        (each.number, each.state, each.values, each.reason)
        for each in finished(database, study.search_id)
    ] == [
        (0, "COMPLETE", [1.5], None),
        (1, "COMPLETE", [3.5], None),
        (2, "PRUNED", [9.0], None),
        (3, "FAIL", [], "it burned"),
    ]


def test_the_snapshot_is_of_one_moment(
    open_database: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, other = open_database(), open_database()
    study = create(database)
    look = reading.count

    def count_and_be_overtaken(connection: Connection, study_id: int) -> Counts:
        counts = look(connection, study_id)
        train_by_hand(other, study, take(other), scores=[7.0, 7.0])
        return counts

    monkeypatch.setattr(reading, "count", count_and_be_overtaken)
    shot = snapshot(database, study)
    # The trial that ended after the first question is in none of the answers.
    assert (shot.search.complete, shot.best) == (0, None)
