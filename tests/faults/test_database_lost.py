"""PostgreSQL and the network between go away: rows 4 to 7 of the faults."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import URL

from tests.faults.fleet import LEASE, STUDY, WHOLE, Fleet
from tests.faults.processes import PATIENCE, eventually
from tests.faults.proxy import Proxy
from tests.faults.servers import OwnServer
from trialfleet.store import leases

CLAIM = "fleet.claim("
EXTEND = "fleet.beat("
REPORT = "fleet.report("
POINT = "INSERT INTO fleet.checkpoints"
FINISH = "fleet.finish("


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


@pytest.mark.parametrize("statement", [CLAIM, REPORT, POINT, FINISH])
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
