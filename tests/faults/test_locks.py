"""Rows that somebody keeps locked, and studies that are deleted, while a fleet works."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from tests.faults.fleet import LEASE, SEGMENT, STUDY, Fleet
from tests.faults.processes import Process, eventually
from tests.support.bulk import fill
from trialfleet.store import studies

STUDY_ROW = "SELECT 1 FROM public.studies WHERE study_name = 'trivial' FOR UPDATE"
# The server's processes that serve workers, those included whose client has gone.
SERVING = """
    SELECT pid, wait_event_type, query FROM pg_stat_activity
    WHERE application_name = 'trialfleet-worker' AND datname = current_database()
"""
DELETING = (
    "SELECT 1 FROM pg_stat_activity WHERE query ~ 'fleet.delete_trials' AND pid <> pg_backend_pid()"
)


@contextmanager
def psql(fleet: Fleet, *statements: str) -> Iterator[None]:
    """A session of somebody who has run this in a transaction, and left for lunch."""
    with fleet.database.engine.connect() as connection, connection.begin():
        for statement in ("SET LOCAL idle_in_transaction_session_timeout = 0", *statements):
            connection.execute(text(statement))
        yield


def finished(fleet: Fleet, name: str) -> int:
    """How many trials of a search have ended."""
    rows = fleet.rows(
        "SELECT c.complete AS trials FROM fleet.counters c"
        " JOIN fleet.studies s ON s.search_id = c.study_id WHERE s.name = :name",
        name=name,
    )
    return int(rows[0].trials) if rows else 0


def crowd(fleet: Fleet, count: int) -> list[Process]:
    """Workers of the whole fleet."""
    return [fleet.worker(study=None) for _ in range(count)]


def test_a_locked_study_stops_no_other_and_leaves_no_process_of_the_servers(fleet: Fleet) -> None:
    fleet.create(trials=3, train_steps=SEGMENT)
    fleet.create(name="other", trials=30, train_steps=SEGMENT)
    with psql(fleet, STUDY_ROW):
        workers = crowd(fleet, 4)
        eventually(
            lambda: finished(fleet, "other") == 30, "the other study's trials end", within=120.0
        )
        began = time.monotonic()
        # Now they have nothing but the locked study to ask for, again and again.
        eventually(lambda: time.monotonic() - began > 2 * LEASE, "some leases' time passes")
        assert len(fleet.rows(SERVING)) <= 2 * len(workers)
        for worker in workers:
            assert worker.code is None, worker.output
    eventually(lambda: finished(fleet, STUDY) == 3, "the locked study's trials end", within=120.0)


@pytest.mark.slow
def test_a_trial_of_a_locked_study_is_trained_to_its_end(fleet: Fleet) -> None:
    fleet.create(trials=2)
    worker = fleet.worker(steer="block")
    claim = fleet.claimed(worker)
    with psql(fleet, STUDY_ROW):
        until = fleet.rows("SELECT expires_at FROM fleet.attempts")[0].expires_at
        eventually(
            lambda: fleet.rows("SELECT 1 FROM fleet.attempts WHERE claimed_at + 2 * lease < now()"),
            "its first lease would have run out twice",
        )
        worker.steer("")
        eventually(lambda: fleet.state(claim.trial_id) == "COMPLETE", "it ends")
        worker.says("lock held, waiting")
        assert fleet.outcomes(0) == ["finished"]
        assert fleet.rows("SELECT expires_at FROM fleet.attempts")[0].expires_at > until
        assert len(fleet.rows(SERVING)) <= 2
    fleet.ends()
    assert worker.ends() == 0


@pytest.mark.parametrize("table", ["public.trials", "fleet.attempts"])
@pytest.mark.parametrize("study", [STUDY, None])
def test_a_lost_trial_whose_row_is_locked_keeps_no_worker_from_others(
    fleet: Fleet, table: str, study: str | None
) -> None:
    fleet.create(trials=3)
    victim = fleet.worker(steer="block")
    claim = fleet.claimed(victim)
    victim.kill()
    with psql(fleet, f"SELECT 1 FROM {table} WHERE trial_id = {claim.trial_id} FOR UPDATE"):
        # The lease is over by the database's clock, while its row is locked.
        eventually(
            lambda: fleet.rows("SELECT 1 FROM fleet.attempts WHERE expires_at < now()"),
            "it is lost",
        )
        worker = fleet.worker(study=study)
        eventually(lambda: finished(fleet, STUDY) == 2, "the other trials end")
        worker.send(signal.SIGTERM)
        assert worker.ends() == 143
    heir = fleet.worker()
    fleet.ends()
    assert heir.ends() == 0
    assert fleet.outcomes(0) == ["lost", "finished"]


def test_a_study_is_deleted_while_a_fleet_works_on_others(fleet: Fleet) -> None:
    fleet.create(name="other", trials=1_000, train_steps=SEGMENT)
    victim = fleet.create(trials=12_001)
    fill(fleet.database, victim, trials=12_000)
    workers = crowd(fleet, 2)
    eventually(lambda: finished(fleet, "other") > 2, "the other study is served")
    delete = fleet.start("delete", STUDY, "--yes")
    eventually(lambda: delete.code is not None or fleet.rows(DELETING), "it deletes")
    served = finished(fleet, "other")
    assert delete.ends(within=120.0) == 0, delete.output
    assert finished(fleet, "other") > served
    assert [study.name for study in studies.find_all(fleet.database)] == ["other"]
    assert fleet.rows("SELECT 1 FROM public.trials WHERE study_id = :id", id=victim.search_id) == []
    for worker in workers:
        assert worker.code is None, worker.output
        assert len(fleet.rows(SERVING)) <= 2 * len(workers)


def test_a_deletion_that_is_killed_has_deleted_nothing(fleet: Fleet) -> None:
    study = fleet.create(trials=20_001)
    fill(fleet.database, study, trials=20_000)
    before = totals(fleet)
    delete = fleet.start("delete", STUDY, "--yes")
    eventually(lambda: fleet.rows(DELETING), "it deletes")
    delete.kill()
    eventually(lambda: not fleet.rows(DELETING), "the server notices")
    assert totals(fleet) == before
    again = fleet.start("delete", STUDY, "--yes")
    assert again.ends(within=120.0) == 0, again.output
    assert not any(totals(fleet).values())


def totals(fleet: Fleet) -> dict[str, int]:
    """How many rows there are of every study together."""
    tables = (
        *("public.studies", "public.trials", "public.trial_params", "public.trial_values"),
        *("fleet.studies", "fleet.attempts", "fleet.metrics", "fleet.finished", "fleet.counters"),
    )
    return {table: fleet.rows(f"SELECT count(*) AS n FROM {table}")[0].n for table in tables}


def test_a_study_that_somebody_has_locked_is_not_deleted_and_says_why(fleet: Fleet) -> None:
    fleet.create(trials=1)
    with psql(fleet, STUDY_ROW):
        delete = fleet.start("delete", STUDY, "--yes")
        assert delete.ends() == 5
        assert "somebody held a lock in the database" in delete.output
        assert "Traceback" not in delete.output
    assert fleet.start("delete", STUDY, "--yes").ends() == 0
