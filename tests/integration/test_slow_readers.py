"""The server ends a silent transaction that holds locks, and none that only reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

import trialfleet.postgres.database
from tests.support.studies import create, take, train_by_hand
from trialfleet.postgres.waiting import wait_until
from trialfleet.store.optuna import history
from trialfleet.store.optuna.rows import frozen
from trialfleet.store.storage import Database

Open = Callable[[], Database]
LIMIT = text("SELECT current_setting('idle_in_transaction_session_timeout')")
OPEN = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE state LIKE 'idle in transaction%' AND datname = current_database()
""")
SILENT = text("""
    SELECT now() - state_change > interval '0.3 s' FROM pg_stat_activity WHERE pid = :pid
""")


def is_silent(observer: Database, connection: Connection) -> None:
    """Return once the connection has said nothing for longer than the limit, or is gone."""
    pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]

    def long_enough() -> bool:
        with observer.transaction() as looking:
            return looking.scalar(SILENT, {"pid": pid}) is not False

    assert wait_until(long_enough, 10, pause=0.01)


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trialfleet.postgres.database, "_LONGEST_SILENCE", 0.1)


def test_no_transaction_is_open_while_the_history_is_made_into_objects(
    open_database: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes as long as the history is, and a limit on silence would end it."""
    database, observer = open_database(), open_database()
    study = create(database)
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    seen: list[int] = []

    def watched(row: Any) -> FrozenTrial:
        with observer.transaction() as looking:
            seen.append(int(looking.scalar(OPEN) or 0))
        return frozen(row)

    monkeypatch.setattr(history, "frozen", watched)
    [trial] = database.optuna_storage().get_all_trials(study.search_id)
    assert seen == [0]
    assert trial.value == 1.5


@pytest.mark.usefixtures("short_limit")
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 FROM public.studies FOR UPDATE",
        "SELECT 1 FROM public.trials\nFOR  NO KEY UPDATE SKIP LOCKED",
        "UPDATE fleet.studies SET budget = budget",
        "WITH gone AS (DELETE FROM public.trial_values RETURNING 1) SELECT count(*) FROM gone",
    ],
)
def test_a_silent_transaction_that_holds_locks_is_ended(
    open_database: Open, statement: str
) -> None:
    database, observer = open_database(), open_database()
    create(database)

    def fall_silent() -> None:
        with database.transaction() as connection:
            connection.execute(text("SELECT 1"))
            connection.execute(text(statement))
            is_silent(observer, connection)
            connection.execute(text("SELECT 1"))

    with pytest.raises(DBAPIError) as ended:
        fall_silent()
    assert ended.value.connection_invalidated


def test_the_limit_ends_with_its_transaction(database: Database) -> None:
    create(database)
    for _ in range(2):
        with database.transaction() as connection:
            assert connection.scalar(LIMIT) == "0"
            connection.execute(text("UPDATE fleet.studies SET budget = budget"))
            assert connection.scalar(LIMIT) == "5s"
