"""A call leaves its pooled connection as it was, however it ends."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.support.studies import create
from trialfleet.postgres.waiting import wait_until
from trialfleet.store.storage import Database

Open = Callable[[], Database]

SLOW = text("SELECT 'of the interrupted call' AS answer, pg_sleep(30)")
QUICK = text("SELECT 'mine' AS answer, 100 % 7 AS remainder")
REFUSED = text("SELECT 1 / :zero")
CHANGE = text("UPDATE fleet.studies SET reason = 'half of a transaction'")
REASON = text("SELECT reason FROM fleet.studies")
ASLEEP = text("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
END_OTHERS = text("""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database()
""")


class InterruptedHereError(Exception):
    """What the signal's handler raises."""


@contextmanager
def interrupted_soon() -> Iterator[None]:
    """A signal whose handler raises, as Ctrl-C's does, a moment from now."""

    def handle(*_: object) -> None:
        raise InterruptedHereError

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_after_an_interrupted_call_the_next_one_gets_its_own_answer(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with interrupted_soon(), pytest.raises(InterruptedHereError):
        database.call(SLOW)
    (row,) = database.call(QUICK)
    assert (row.answer, row.remainder) == ("mine", 2)
    assert caplog.messages == []  # the pool prints a traceback where it cannot reset a connection


def test_a_process_may_have_thousands_of_descriptors(database: Database) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    database.close_idle()
    with ExitStack() as opened:
        if soft < 2_048:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(2_048, hard), hard))
            opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while opened.enter_context(open(os.devnull)).fileno() < 1_100:
            pass
        # A new connection, whose descriptor is the next.
        assert database.call(QUICK) == [("mine", 2)]


def test_a_refused_call_leaves_transactions_whole(database: Database) -> None:
    create(database)
    with pytest.raises(DBAPIError) as caught:
        database.call(REFUSED, {"zero": 0})
    assert not caught.value.connection_invalidated
    roll_back_a_change(database)


def test_a_call_leaves_transactions_whole(database: Database) -> None:
    create(database)
    database.call(QUICK)
    roll_back_a_change(database)


def roll_back_a_change(database: Database) -> None:
    with database.engine.connect() as connection:
        connection.execute(CHANGE)
        connection.rollback()
    (row,) = database.call(REASON)
    assert row.reason is None


def test_one_lost_connection_costs_one_call(
    open_database: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """The other that waits in the pool has died with it, and nobody is to find that out again."""
    database, other = open_database(), open_database()
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(database.call, SLOW)
        assert wait_until(lambda: bool(other.call(ASLEEP)), 10)
        database.call(QUICK)
        other.call(END_OTHERS)
        error = lost.exception()
    assert isinstance(error, DBAPIError)
    assert error.connection_invalidated
    assert database.call(QUICK)[0].answer == "mine"
    assert caplog.messages == []
