"""PostgreSQL and the network between go away: rows 4 to 9 and 12 of the faults."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import URL

from cli.schema import migrate
from tests.faults.fleet import LEASE, SEGMENT, STUDY, WHOLE, Fleet
from tests.faults.processes import PATIENCE, Process, eventually
from tests.faults.proxy import Proxy
from tests.faults.servers import OwnServer
from tests.support.studies import take
from tuning import leases
from tuning.retry import patiently
from tuning.storage import Database

CLAIM = "INSERT INTO fleet.attempts"
EXTEND = "UPDATE fleet.attempts SET expires_at"
REPORT = "INSERT INTO trial_intermediate_values"
CURVE = "INSERT INTO fleet.curves"
POINT = "INSERT INTO fleet.checkpoints"
FINISH = "SET state = 'COMPLETE'"
GIVE_BACK = "SET state = 'WAITING'"


@pytest.fixture
def own_fleet(restartable: OwnServer, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet on the server that may be stopped."""
    with restartable.server.fresh_database() as url:
        fleet = Fleet(url, tmp_path)
        yield fleet
        fleet.close()


@pytest.mark.parametrize(("mode", "segments"), [("fast", 10), ("immediate", 2)])
def test_04_postgresql_restarted(
    own_fleet: Fleet,
    restartable: OwnServer,
    mode: Literal["fast", "immediate"],
    segments: int,
) -> None:
    own_fleet.create(trials=2)
    training = own_fleet.worker(steer="slow")
    claim = own_fleet.claimed(training)
    idle = own_fleet.worker()
    eventually(lambda: "finished" in own_fleet.outcomes(1), "the other trial is done")
    [acknowledged] = own_fleet.attempts(1)
    before = own_fleet.written(acknowledged.trial_id)

    restartable.stop(mode)
    try:
        # It trains on, for longer than its lease where it is ten segments.
        training.says("training on", times=segments)
        idle.says("database away, waiting")
    finally:
        restartable.start()
    # Expired or not, nobody loses a trial before it could have come back.
    own_fleet.execute("UPDATE fleet.attempts SET expires_at = now() WHERE ended_at IS NULL")
    assert leases.reap(own_fleet.database, STUDY) == []
    training.steer("")
    own_fleet.ends()
    assert own_fleet.outcomes(0) == ["finished"]
    assert own_fleet.curve(claim.trial_id) == WHOLE  # what was reported meanwhile has arrived
    before["fleet.checkpoints"] = []
    assert own_fleet.written(acknowledged.trial_id) == before
    assert training.ends() == idle.ends() == 0


def test_04_a_database_that_stays_away_ends_the_worker_with_its_own_code(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    fleet.create(trials=1)
    worker = fleet.worker(steer="slow", url=proxy_url, outage_patience="1")
    claim = fleet.claimed(worker)
    proxy.refuse()
    proxy.reset()
    worker.steer("")
    assert worker.ends() == 5
    assert "PostgreSQL was away" in worker.output
    assert "Traceback" not in worker.output
    fleet.expire(claim.fence)
    fleet.worker()
    fleet.ends()


def test_04_away_while_they_start(fleet: Fleet, proxy: Proxy, proxy_url: URL) -> None:
    created = proxy.trap("INSERT INTO fleet.studies", "reset")
    coordinator = fleet.coordinator(url=proxy_url, trials=1)
    coordinator.says("database away, waiting")
    coordinator.says("leading")
    coordinator.send(signal.SIGTERM)
    assert coordinator.ends() == 143
    found = proxy.trap("FROM fleet.studies WHERE name", "reset")
    worker = fleet.worker(url=proxy_url)
    worker.says("database away, waiting")
    fleet.ends()
    assert worker.ends() == 0
    assert created.sprung.is_set()
    assert found.sprung.is_set()


def test_04_the_first_claim_after_an_outage_longer_than_the_lease_is_kept(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    fleet.create(trials=1)
    trap = proxy.trap(CLAIM, "reset")
    worker = fleet.worker(url=proxy_url)
    assert trap.sprung.wait(PATIENCE), worker.output
    proxy.refuse()
    proxy.reset()
    away = time.monotonic()
    eventually(lambda: time.monotonic() - away > LEASE + 0.5, "longer than a lease")
    proxy.accept()
    fleet.ends()
    assert worker.ends() == 0
    assert fleet.outcomes(0) == ["finished"]
    assert "lease lost" not in worker.output


def test_04_the_migrator_waits_for_a_database_that_is_coming_up(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    proxy.refuse()
    migrator = fleet.start("migrate", "--wait", "60", url=proxy_url)
    migrator.says("database away, waiting")
    proxy.accept()
    assert migrator.ends() == 0
    assert "the schema is at revision" in migrator.output


def test_04_away_in_the_middle_of_a_command(fleet: Fleet, proxy: Proxy, proxy_url: URL) -> None:
    fleet.create(trials=1)
    proxy.trap("FROM fleet.studies WHERE name", "reset")
    status = fleet.start("status", STUDY, url=proxy_url)
    assert status.ends() == 5
    assert "PostgreSQL went away" in status.output
    assert len(status.output.splitlines()) == 1


@pytest.mark.parametrize("statement", [CLAIM, REPORT, CURVE, POINT, FINISH])
def test_05_the_reply_to_commit_is_lost(
    fleet: Fleet, proxy: Proxy, proxy_url: URL, statement: str
) -> None:
    fleet.create(trials=1)
    trap = proxy.trap(statement, "lose reply", commit=True)
    worker = fleet.worker(url=proxy_url)
    assert trap.sprung.wait(PATIENCE), worker.output
    fleet.ends()
    assert worker.ends() == 0
    # One attempt that ended as its worker believes: no orphan, and no second outcome.
    assert fleet.outcomes(0) == ["finished"]
    assert worker.output.count("claimed") == worker.output.count("finished ") == 2
    assert "lease lost" not in worker.output
    [attempt] = fleet.attempts(0)
    assert fleet.curve(attempt.trial_id) == WHOLE
    if statement == CLAIM:
        assert "database away, waiting" in worker.output


def test_06_stalled_for_longer_than_the_lease(fleet: Fleet, proxy: Proxy, proxy_url: URL) -> None:
    fleet.create(trials=2)
    cut_off = fleet.worker(steer="slow", url=proxy_url)
    claim = fleet.claimed(cut_off)
    fleet.trained(claim.trial_id)
    proxy.stall()
    # Nobody else is there to take the trial: it gives up by its own clock.
    cut_off.says("lease lost, dropped the trial", within=LEASE + PATIENCE)
    assert fleet.outcomes(0) == [None]
    heir = fleet.worker()
    fleet.expire(claim.fence)
    eventually(lambda: fleet.outcomes(0)[-1] == "finished", "the heir completes the trial")
    before = fleet.written(claim.trial_id)
    cut_off.steer("")
    proxy.heal()  # what it had sent into the stalled network arrives
    fleet.ends()
    assert cut_off.ends() == heir.ends() == 0
    assert fleet.outcomes(0) == ["lost", "finished"]
    before["fleet.checkpoints"] = []
    assert fleet.written(claim.trial_id) == before


def test_06_a_stall_shorter_than_the_lease_costs_nothing(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    fleet.create(trials=1)
    worker = fleet.worker(steer="slow", url=proxy_url, lease_seconds="12")
    claim = fleet.claimed(worker)
    fleet.trained(claim.trial_id)
    proxy.stall()
    # The report gives its connection up, and the one that was to replace it, with time to spare.
    worker.says("training on", within=9.0)
    proxy.heal()
    worker.steer("")
    fleet.ends()
    assert fleet.outcomes(0) == ["finished"]
    assert fleet.curve(claim.trial_id) == WHOLE


def test_06_a_machine_that_vanishes_with_a_lock_does_not_stop_the_others(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    fleet.create(trials=1)
    # Cut off inside its claim, it holds the study's lock, and PostgreSQL sees no end of it.
    trap = proxy.trap(CLAIM, "hold", commit=True)
    vanished = fleet.worker(url=proxy_url)
    assert trap.sprung.wait(PATIENCE), vanished.output
    vanished.kill()
    fleet.worker()
    fleet.ends(within=LEASE + PATIENCE)
    assert fleet.outcomes(0) == ["finished"]


def test_07_only_the_heartbeats_connection_is_lost(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    fleet.create(trials=1)
    traps = [proxy.trap(EXTEND, "reset") for _ in range(2)]
    worker = fleet.worker(steer="slow", url=proxy_url)
    claim = fleet.claimed(worker)
    for trap in traps:
        assert trap.sprung.wait(PATIENCE), worker.output
    extended = "SELECT 1 FROM fleet.attempts WHERE expires_at > claimed_at + 1.5 * lease"
    eventually(lambda: fleet.rows(extended), "the lease is extended after all")
    worker.steer("")
    fleet.ends()
    assert fleet.outcomes(0) == ["finished"]
    assert fleet.curve(claim.trial_id) == WHOLE


def test_07_its_session_terminated_by_the_server(fleet: Fleet) -> None:
    fleet.create(trials=1)
    worker = fleet.worker(steer="slow")
    claim = fleet.claimed(worker)
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'trialfleet-worker' AND datname = current_database() "
        "AND (query LIKE '%fleet.workers%' OR query = 'COMMIT' OR query = 'ROLLBACK')"
    )
    for _ in range(3):
        eventually(lambda: fleet.rows(terminate), "it has a session")
    extended = "SELECT 1 FROM fleet.attempts WHERE expires_at > claimed_at + 1.5 * lease"
    eventually(lambda: fleet.rows(extended), "the lease is extended")
    worker.steer("")
    fleet.ends()
    assert fleet.outcomes(0) == ["finished"]
    assert fleet.curve(claim.trial_id) == WHOLE


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


def test_12_a_reaper_killed_while_it_gives_a_trial_back(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    fleet.create(trials=1)
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim)
    fleet.trained(claim.trial_id)
    victim.kill()
    before = fleet.written(claim.trial_id)
    trap = proxy.trap(GIVE_BACK, "hold", commit=True)
    reaper = fleet.coordinator(url=proxy_url, trials=1)
    fleet.expire(claim.fence)
    assert trap.sprung.wait(PATIENCE), reaper.output
    reaper.kill()
    assert fleet.written(claim.trial_id) == before
    assert fleet.outcomes(0) == [None]
    assert leases.reap(fleet.database, STUDY) == []  # it is in the dead reaper's hands still
    proxy.reset()
    eventually(lambda: leases.reap(fleet.database, STUDY), "another reaper takes over")
    assert fleet.outcomes(0) == ["lost"]
    assert fleet.state(claim.trial_id) == "WAITING"
    fleet.worker()
    fleet.ends()
    assert fleet.outcomes(0) == ["lost", "finished"]


def test_12_a_reaper_killed_as_it_has_given_a_trial_back(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    fleet.create(trials=1)
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim)
    victim.kill()
    trap = proxy.trap(GIVE_BACK, "lose reply", commit=True)
    reaper = fleet.coordinator(url=proxy_url, trials=1)
    fleet.expire(claim.fence)
    assert trap.sprung.wait(PATIENCE), reaper.output
    reaper.kill()
    # All of it: nobody waits for the trial, and nobody holds it.
    assert fleet.state(claim.trial_id) == "WAITING"
    assert fleet.outcomes(0) == ["lost"]
    assert leases.reap(fleet.database, STUDY) == []
    fleet.worker()
    fleet.execute("UPDATE fleet.leaders SET expires_at = now()")
    fleet.ends()
    assert fleet.outcomes(0) == ["lost", "finished"]


@pytest.mark.slow
def test_12_a_reaper_whose_machine_vanishes_while_it_gives_a_trial_back(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    fleet.create(trials=1)
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim)
    victim.kill()
    trap = proxy.trap(GIVE_BACK, "hold", commit=True)
    reaper = fleet.coordinator(url=proxy_url, trials=1)
    fleet.expire(claim.fence)
    assert trap.sprung.wait(PATIENCE), reaper.output
    reaper.kill()
    vanished = time.monotonic()
    eventually(lambda: leases.reap(fleet.database, STUDY), "another reaper takes over", within=60.0)
    assert time.monotonic() - vanished < 45.0
    fleet.execute("UPDATE fleet.leaders SET expires_at = now()")
    fleet.worker()
    fleet.ends()
