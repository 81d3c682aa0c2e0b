"""A lock that somebody holds: what waits for it, for how long, and what does not wait at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from coordinator.fleet import Fleet
from tests.support.studies import (
    LEASE,
    create,
    expire,
    extend,
    finish,
    outcomes,
    send,
    states,
    take,
    train_by_hand,
)
from trialfleet.errors import DatabaseLockedError
from trialfleet.postgres.outages import is_locked, is_outage
from trialfleet.postgres.retry import patiently
from trialfleet.postgres.waiting import REPLY_TIMEOUT, set_reply_timeout, unhurried, wait_until
from trialfleet.settings import Settings
from trialfleet.store import leases, studies
from trialfleet.store.leases import Claim
from trialfleet.store.steering import course
from trialfleet.store.storage import Database

Open = Callable[[], Database]

# What of the server still works for a client, or waits for a lock.
BUSY = text("""
    SELECT query FROM pg_stat_activity
    WHERE state = 'active' AND datname = current_database() AND pid <> pg_backend_pid()
""")
STUDY_ROW = "SELECT 1 FROM public.studies WHERE study_name = 'trivial' FOR UPDATE"
TRIAL_ROW = "SELECT 1 FROM public.trials FOR UPDATE"
LEASE_ROW = "SELECT 1 FROM fleet.attempts FOR UPDATE"


@pytest.fixture
def hurried() -> Iterator[float]:
    """This process waits for replies as a worker with leases of four seconds does."""
    set_reply_timeout(1.0)
    yield 1.0
    set_reply_timeout(REPLY_TIMEOUT)


@contextmanager
def somebody(database: Database, *statements: str) -> Iterator[None]:
    """A session of somebody who has run this in a transaction, and left for lunch."""
    with database.engine.connect() as connection, connection.begin():
        for statement in ("SET LOCAL idle_in_transaction_session_timeout = 0", *statements):
            connection.execute(text(statement))
        yield


def claim_any(database: Database, *, skipped: Sequence[str] = ()) -> Claim | None:
    return leases.claim_any(
        database, worker="hand", claim_id=uuid4(), lease_seconds=LEASE, skipped=skipped
    )


def busy(database: Database) -> list[str]:
    """What the server does for others than this connection."""
    with database.transaction() as connection:
        return list(connection.scalars(BUSY))


# What a worker calls, and what its row may be locked by.
CALLS: dict[str, tuple[str, Callable[[Database, Claim], Any]]] = {
    "claim": (STUDY_ROW, lambda database, _claim: take(database)),
    "report": (LEASE_ROW, lambda database, claim: send(database, claim, 8, [1.0, 2.0])),
    "finish": (TRIAL_ROW, finish),
    "release": (TRIAL_ROW, leases.release),
    "beat": (LEASE_ROW, extend),
    "attribute": (
        LEASE_ROW,
        lambda database, claim: database.optuna_storage(claim.fence).set_trial_user_attr(
            claim.trial_id, "key", 1
        ),
    ),
    "new trial": (
        STUDY_ROW,
        lambda database, _claim: database.optuna_study("trivial").enqueue_trial({"gamma": 0.95}),
    ),
    "pause": (
        STUDY_ROW,
        lambda database, _claim: course.pause(database, studies.find(database, "trivial")),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_server_gives_up_a_lock_before_its_client_does(
    open_database: Open, hurried: float, name: str
) -> None:
    # A client that closes its socket leaves the server's process waiting.
    worker, psql, observer = open_database(), open_database(), open_database()
    create(observer)
    claim = take(worker)
    row, call = CALLS[name]
    with somebody(psql, row):
        before = time.monotonic()
        with pytest.raises(OperationalError) as told:
            call(worker, claim)
        assert time.monotonic() - before < hurried
        assert is_locked(told.value)
        assert is_outage(told.value)  # worth another try
        assert busy(observer) == []
    call(worker, claim)


def test_the_server_ends_a_statement_that_takes_too_long(
    open_database: Open, hurried: float
) -> None:
    worker, observer = open_database(), open_database()
    for run in (
        lambda: worker.call(text("SELECT pg_sleep(60)")),
        lambda: _in_transaction(worker, "SELECT pg_sleep(60)"),
    ):
        with pytest.raises(OperationalError):
            run()
        assert busy(observer) == []


def _in_transaction(database: Database, statement: str) -> None:
    with database.transaction() as connection:
        connection.execute(text(statement))


def test_what_may_take_long_has_no_limit_but_that_of_locks(
    open_database: Open, hurried: float
) -> None:
    worker, psql = open_database(), open_database()
    create(worker)
    with unhurried():
        _in_transaction(worker, f"SELECT pg_sleep({1.2 * hurried})")
        with somebody(psql, STUDY_ROW), pytest.raises(OperationalError) as told:
            _in_transaction(worker, STUDY_ROW)
        assert is_locked(told.value)
    with pytest.raises(OperationalError):
        _in_transaction(worker, f"SELECT pg_sleep({1.2 * hurried})")


def test_a_lock_that_is_held_for_ever_is_told_as_one(open_database: Open, hurried: float) -> None:
    worker, psql = open_database(), open_database()
    create(worker)
    with somebody(psql, STUDY_ROW), pytest.raises(DatabaseLockedError, match="held a lock") as told:
        patiently(lambda: take(worker), patience=0.0)
    assert told.value.exit_code == 5


def test_a_fleets_claim_passes_over_a_locked_study(open_database: Open) -> None:
    worker, psql = open_database(), open_database()
    create(worker)  # the first one to be served
    create(worker, name="other")
    with somebody(psql, STUDY_ROW):
        for _ in range(3):
            claim = claim_any(worker)
            assert claim is not None
            assert claim.study == "other"
        assert claim_any(worker, skipped=["other"]) is None
    claim = claim_any(worker)
    assert claim is not None
    assert claim.study == "trivial"


@pytest.mark.parametrize(
    "row", ["SELECT 1 FROM fleet.counters c JOIN fleet.studies s ON s.search_id = c.study_id"]
)
def test_a_fleets_claim_passes_over_locked_counters(open_database: Open, row: str) -> None:
    # They are locked without their study by whoever ends trials of it.
    worker, psql = open_database(), open_database()
    create(worker)
    create(worker, name="other")
    leases.release(worker, take(worker))
    leases.release(worker, take(worker, "other"))
    with somebody(psql, f"{row} WHERE s.name = 'trivial' FOR UPDATE OF c"):
        claim = claim_any(worker)
    assert claim is not None
    assert claim.study == "other"


@pytest.mark.parametrize("row", [TRIAL_ROW, LEASE_ROW])
@pytest.mark.parametrize("fleet", [False, True])
def test_a_lost_trial_that_somebody_has_locked_is_passed_over(
    open_database: Open, row: str, fleet: bool
) -> None:
    worker, psql = open_database(), open_database()
    study = create(worker)
    lost = take(worker)
    expire(worker)
    with somebody(psql, row):
        claim = claim_any(worker) if fleet else take(worker)
        assert claim is not None
        assert claim.number == 1
        assert leases.reap(worker, "trivial") == []
    assert [each.number for each in leases.reap(worker, "trivial")] == [0]
    assert outcomes(worker, lost) == ["lost"]
    assert states(worker, study.search_id) == [(0, "WAITING"), (1, "RUNNING")]


def test_a_claim_that_waits_for_its_study_holds_no_lost_trial(open_database: Open) -> None:
    """Whoever has the study may want the trial next, as a deletion does, and waits for no claim."""
    hand, other, waiting = open_database(), open_database(), open_database()
    create(hand)
    take(hand)
    expire(hand)
    with (
        somebody(other, LEASE_ROW),
        hand.engine.connect() as deleting,
        ThreadPoolExecutor(1) as pool,
    ):
        deleting.execute(text(STUDY_ROW))
        claiming = pool.submit(take, waiting)
        assert wait_until(lambda: any("fleet.claim(" in each for each in busy(hand)), 60)
        deleting.execute(text(f"{TRIAL_ROW} NOWAIT"))
        deleting.rollback()
        assert claiming.result(60).number == 1


def test_a_trial_that_is_locked_after_it_was_found_lost_is_asked_for_once(
    open_database: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = open_database()
    create(worker)
    take(worker)
    expire(worker)
    reaped: list[str] = []
    monkeypatch.setattr(leases, "reap", lambda _database, study: reaped.append(study))
    for claim in (take(worker), claim_any(worker)):
        assert claim is not None
    assert reaped == ["trivial", "trivial"]


def test_a_lease_is_extended_whoever_has_the_workers_row(open_database: Open) -> None:
    worker, psql = open_database(), open_database()
    create(worker)
    claim = take(worker)
    assert extend(worker, claim)
    with somebody(psql, "SELECT 1 FROM fleet.workers FOR UPDATE"):
        assert extend(worker, claim)


def test_more_lost_trials_than_one_transaction_takes_are_all_taken_back(
    database: Database,
) -> None:
    study = create(database, trials=50)
    for _ in range(45):
        take(database)
    expire(database)
    assert [each.number for each in leases.reap(database, "trivial")] == [*range(45)]
    assert {state for _, state in states(database, study.search_id)} == {"WAITING"}


def test_a_coordinator_looks_at_the_studies_after_a_locked_one(
    open_database: Open, hurried: float
) -> None:
    ours, psql = open_database(), open_database()
    for name in ("trivial", "other"):
        study = create(ours, name=name, trials=1, top=1, final_seeds=1)
        train_by_hand(ours, study, take(ours, name), scores=[1.0, 2.0])
    fleet = Fleet(ours, settings=Settings(), pause=lambda _seconds: None)
    with somebody(psql, STUDY_ROW):
        fleet.look()
        assert studies.find(ours, "trivial").stage == "search"
        assert studies.find(ours, "other").stage == "final"
