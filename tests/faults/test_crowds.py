"""More workers than the database can serve, or before it is ready: rows 8 and 9 of the faults."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.faults.fleet import SEGMENT, Fleet
from tests.faults.processes import Process, eventually
from tests.faults.servers import OwnServer
from tests.support.studies import take
from trialfleet.cli.schema import migrate
from trialfleet.postgres.retry import patiently
from trialfleet.store import leases
from trialfleet.store.storage import Database


def _running(crowd: list[Process]) -> list[Process]:
    """All of them, none of which has ended."""
    for process in crowd:
        assert process.code is None, f"exit code {process.code}:\n{process.output}"
    return crowd


def _crowd(restartable: OwnServer, folder: Path, *, connections: int, workers: int) -> None:
    """Many workers on a server that has too few connections for them."""
    # Superusers, as these tests are, have three of them to themselves.
    restartable.restart(max_connections=str(connections))
    try:
        with restartable.server.fresh_database() as url:
            fleet = Fleet(url, folder)
            try:
                crowded = url.set(username=fleet.grant("crowd"))
                fleet.create(trials=2 * workers, train_steps=SEGMENT * 2)
                crowd = [
                    fleet.worker(steer="block", url=crowded, lease_seconds="60", poll_seconds="1")
                    for _ in range(workers)
                ]
                # Who trains does not keep the others out: all of them train at once.
                eventually(
                    lambda: all("claimed" in process.output for process in _running(crowd)),
                    "each has a trial",
                    within=200.0,
                )
                assert len(fleet.attempts()) == workers
                for process in crowd:
                    process.steer("")
                fleet.ends(within=300.0)
                for process in crowd:
                    assert process.ends(within=100.0) == 0
                    assert "Traceback" not in process.output
                attempts = fleet.attempts()
                assert {attempt.outcome for attempt in attempts} == {"finished"}
                assert len(attempts) == 2 * workers
            finally:
                fleet.close()
    finally:
        restartable.restart()


def test_08_more_workers_than_connections(restartable: OwnServer, tmp_path: Path) -> None:
    _crowd(restartable, tmp_path, connections=8, workers=8)


def test_08_a_study_is_opened_with_one_connection_at_a_time(fleet: Fleet) -> None:
    # Workers that kept one and waited for a second would wait for each other.
    study = fleet.create(trials=1)
    alone = fleet.url.set(username=fleet.grant("alone"))
    fleet.execute('ALTER ROLE "alone" CONNECTION LIMIT 1')
    with closing(Database(alone, application="alone")) as database:
        claim = take(database)
        # A connection that was closed may count for a moment longer; one that is kept stays longer
        # than this, until the server ends its idle transaction.
        trials = patiently(lambda: database.optuna_study(study.name).get_trials(), patience=1.0)
        assert trials[0].number == claim.number
        patiently(lambda: leases.release(database, claim), patience=1.0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_08_64_workers_on_20_connections(restartable: OwnServer, tmp_path: Path) -> None:
    _crowd(restartable, tmp_path, connections=20, workers=64)


def _migration(url: URL, folder: Path, *, workers: int) -> None:
    """Workers that are started before there is a schema."""
    fleet = Fleet(url, folder)
    try:
        # Who runs DDL is written down by the server itself.
        for statement in (
            "CREATE TABLE ddl (application text)",
            "CREATE FUNCTION note_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO public.ddl VALUES (current_setting('application_name')); END $$",
            "CREATE EVENT TRIGGER note_ddl ON ddl_command_end EXECUTE FUNCTION note_ddl()",
        ):
            fleet.execute(statement)
        crowd = [fleet.worker(migration_patience="300") for _ in range(workers)]
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'trialfleet-worker' "
            "AND datname = current_database()"
        )
        eventually(
            lambda: len(fleet.rows(waiting)) >= len(_running(crowd)), "all are there", within=200.0
        )
        assert fleet.rows("SELECT 1 FROM ddl") == []
        # The study comes after the schema; nobody looks in between.
        for process in crowd:
            assert process.code is None, process.output
            process.send(signal.SIGSTOP)
        migrate(url)
        fleet.create(trials=workers, train_steps=SEGMENT)
        for process in crowd:
            process.send(signal.SIGCONT)
        fleet.ends(within=300.0)
        for process in crowd:
            assert process.ends(within=100.0) == 0
        by = {row.application for row in fleet.rows("SELECT application FROM ddl")}
        assert by == {"trialfleet-migrate"}
    finally:
        fleet.close()


def test_09_workers_started_before_the_migrator(empty_database_url: URL, tmp_path: Path) -> None:
    _migration(empty_database_url, tmp_path, workers=6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_09_64_workers_started_before_the_migrator(empty_database_url: URL, tmp_path: Path) -> None:
    _migration(empty_database_url, tmp_path, workers=64)


def test_09_a_migrator_that_never_comes(empty_database_url: URL, tmp_path: Path) -> None:
    fleet = Fleet(empty_database_url, tmp_path)
    try:
        worker = fleet.worker(migration_patience="0.5")
        assert worker.ends() == 3
        assert "the database's schema is empty" in worker.output
        assert "trialfleet migrate" in worker.output
    finally:
        fleet.close()
