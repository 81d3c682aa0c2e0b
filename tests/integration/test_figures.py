"""What workers measure reaches the database with their heartbeats, and is summed up there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.support.studies import create, finish, take
from trialfleet.postgres.waiting import wait_until
from trialfleet.settings import Settings
from trialfleet.store import workers
from trialfleet.store.storage import Database
from trialfleet.store.workers import CLAIM_BUCKETS, NOTHING, Measured
from worker.figures import Figures
from worker.loop import Worker
from worker.stop import Stop

Open = Callable[[], Database]

SLOW = text("SELECT pg_sleep(30)")
ASLEEP = text("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
END_OTHERS = text("""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database()
""")
# As a worker of the version before says it: without what it has measured.
OLDER_BEAT = text("""
    SELECT * FROM fleet.beat(NULL, 'older', 'trivial', 'here', 1, '0.1', NULL, NULL, NULL)
""")


def identity(worker: str, study: str = "trivial") -> dict[str, object]:
    return {"worker": worker, "study": study, "host": "here", "pid": 1, "version": "1"}


def read(database: Database, study: str = "trivial") -> Measured:
    with database.transaction() as connection:
        return workers.measured(connection, study)


def test_what_all_workers_of_a_study_have_measured_is_summed(database: Database) -> None:
    create(database)
    create(database, name="other")
    claims = [0] * len(NOTHING.claims)
    first = Measured(claims=[3, *claims[1:]], claim_seconds=0.5, database_errors=1)
    again = Measured(claims=[4, *claims[1:]], claim_seconds=0.75, database_errors=2)
    second = Measured(claims=[*claims[:-1], 1], claim_seconds=20.0, database_errors=0)
    assert read(database) == NOTHING
    workers.beat(database, identity("one"), measured=first)
    workers.beat(database, identity("two"), measured=second)
    workers.beat(database, identity("three", study="other"), measured=first)
    database.call(OLDER_BEAT)
    # A beat tells all since the worker began, so that a lost one loses nothing.
    workers.beat(database, identity("one"), measured=again)
    with database.transaction() as connection:
        workers.say_goodbye(connection, "two", second)
    assert read(database) == Measured(
        claims=[4, *claims[1:-1], 1], claim_seconds=20.75, database_errors=2
    )


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (CLAIM_BUCKETS[0], 0), (0.003, 1), (CLAIM_BUCKETS[-1], -2), (11.0, -1)],
)
def test_a_claim_counts_in_the_bucket_whose_upper_end_it_does_not_exceed(
    seconds: float, bucket: int
) -> None:
    figures = Figures()
    figures.claimed(seconds)
    assert (sum(figures.claims), figures.claims[bucket]) == (1, 1)
    assert figures.claim_seconds == seconds


def test_a_worker_counts_its_claims(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    create(database, trials=3)
    finish(database, take(database))
    worker = Worker(database, "trivial", settings=Settings(), stop=Stop())
    claimed = []

    def finish_by_hand(served: object, claim: object, *, asked: float) -> None:
        claimed.append(claim)
        finish(database, claim)  # type: ignore[arg-type]
        if len(claimed) == 2:
            with database.transaction() as connection:
                connection.execute(text("UPDATE fleet.studies SET stage = 'done'"))

    monkeypatch.setattr(worker, "_run", finish_by_hand)
    worker.run()
    measured = read(database)
    assert sum(measured.claims) == 2
    assert 0 < measured.claim_seconds < 30
    assert measured.database_errors == 0


@pytest.mark.parametrize("way", ["call", "transaction", "one_moment"])
def test_a_lost_connection_is_an_error_counted_however_it_was_used(
    open_database: Open, way: str
) -> None:
    database, other = open_database(), open_database()

    def sleep() -> None:
        if way == "call":
            database.call(SLOW)
            return
        opened = database.transaction() if way == "transaction" else database.one_moment()
        with opened as connection:
            connection.execute(SLOW)

    with ThreadPoolExecutor() as pool:
        lost = pool.submit(sleep)
        assert wait_until(lambda: bool(other.call(ASLEEP)), 10, pause=0.02)
        other.call(END_OTHERS)
        assert isinstance(lost.exception(), DBAPIError)
    assert (database.errors, other.errors) == (1, 0)


def test_what_a_statement_does_wrong_is_no_error_of_the_database(database: Database) -> None:
    with pytest.raises(DBAPIError):
        database.call(text("SELECT 1 / 0"))
    assert database.errors == 0
