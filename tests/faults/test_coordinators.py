"""Several coordinators, and coordinators that die: rows 10 and 11 of the faults."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from sqlalchemy import URL

from tests.faults.fleet import LEASE, STUDY, WHOLE, Fleet
from tests.faults.processes import PATIENCE, Process, eventually
from tests.faults.proxy import Proxy, Trap
from tests.support.invariants import check_invariants

# Two finalists with three fresh seeds each, in groups of two and one.
FIELDS: dict[str, Any] = {
    "trials": 2,
    "top": 2,
    "final_seeds": 3,
    "train_steps": 16,
    "eval_every": 8,
}
FINAL_TRIALS = 4
ENQUEUE = "SET stage = 'final'"


def _leader(fleet: Fleet) -> str:
    query = "SELECT coordinator FROM fleet.leaders WHERE expires_at > now()"
    return next((row.coordinator for row in fleet.rows(query)), "")


def _leads(fleet: Fleet, process: Process) -> None:
    eventually(lambda: f"-{process.pid}-" in _leader(fleet), f"{process.name} leads")


def _kill_leader(fleet: Fleet, process: Process) -> None:
    """Kill it, and let the time that it would still be followed for have passed."""
    process.kill()
    fleet.execute("UPDATE fleet.leaders SET expires_at = now() - interval '1 second'")


def _final_trials(fleet: Fleet) -> int:
    """How many trials the final stage has, in whichever Optuna study of that name."""
    query = """
        SELECT 1 FROM public.trials JOIN public.studies USING (study_id)
        WHERE study_name = 'trivial.final'
    """
    return len(fleet.rows(query))


def _ends(fleet: Fleet, *coordinators: Process) -> None:
    for coordinator in coordinators:
        assert coordinator.ends() == 0, coordinator.output
        assert "winner" in coordinator.output
    check_invariants(fleet.database, STUDY)
    assert _final_trials(fleet) == FINAL_TRIALS


def test_10_the_second_with_the_same_file_stands_by_and_follows(fleet: Fleet) -> None:
    first = fleet.coordinator(**FIELDS)
    _leads(fleet, first)
    second = fleet.coordinator(**FIELDS)
    second.says("standing by for the leader")
    fleet.worker()
    first.send(signal.SIGSTOP)
    stopped = time.monotonic()
    _leads(fleet, second)
    # After the leader's lease, and not long after.
    assert LEASE / 2 < time.monotonic() - stopped < LEASE + 3.0
    first.send(signal.SIGCONT)
    _ends(fleet, first, second)
    assert "standing by for the leader" in first.output or "final stage begins" not in first.output


def test_10_a_leader_that_is_stopped_is_followed_at_once(fleet: Fleet) -> None:
    first = fleet.coordinator(**FIELDS)
    _leads(fleet, first)
    second = fleet.coordinator(**FIELDS)
    second.says("standing by for the leader")
    first.send(signal.SIGTERM)
    assert first.ends() == 143
    stopped = time.monotonic()
    _leads(fleet, second)
    assert time.monotonic() - stopped < LEASE / 2
    fleet.worker()
    _ends(fleet, second)


def test_10_many_that_start_together_create_one_study(fleet: Fleet) -> None:
    together = [fleet.coordinator(**FIELDS) for _ in range(4)]
    fleet.worker()
    _ends(fleet, *together)
    assert len(fleet.rows("SELECT 1 FROM fleet.studies")) == 1


def test_10_one_that_comes_late_to_the_creation_joins(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    trap = proxy.trap(STEPS["creating Optuna's study"], "hold")
    late = fleet.coordinator(url=proxy_url, **FIELDS)
    assert trap.sprung.wait(PATIENCE), late.output
    # It has seen that there is no study; by the time it goes on, there is one with trials.
    first = fleet.coordinator(**FIELDS)
    fleet.worker()
    eventually(lambda: fleet.attempts(), "a worker has begun")
    trap.go.set()
    _ends(fleet, late, first)


def test_10_another_file_under_the_same_name_is_refused(fleet: Fleet) -> None:
    first = fleet.coordinator(**FIELDS)
    _leads(fleet, first)
    tables = ("fleet.studies", "public.studies", "public.study_user_attributes")
    before = {table: fleet.rows(f"SELECT * FROM {table}") for table in tables}
    other = fleet.coordinator(**{**FIELDS, "trials": 3, "seed": 4})
    assert other.ends() == 2
    assert "search.trials: 2 there, 3 here" in other.output
    assert "seed: 3 there, 4 here" in other.output
    assert "Traceback" not in other.output
    assert {table: fleet.rows(f"SELECT * FROM {table}") for table in tables} == before
    fleet.worker()
    _ends(fleet, first)


def test_10_two_that_both_believe_to_lead_enqueue_once(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    trap = proxy.trap(ENQUEUE, "hold", commit=True)
    first = fleet.coordinator(url=proxy_url, **FIELDS)
    fleet.worker()
    assert trap.sprung.wait(PATIENCE), first.output
    # It has enqueued and not committed when its lease ends, and another begins to do the same.
    fleet.execute("UPDATE fleet.leaders SET expires_at = now() - interval '1 second'")
    second = fleet.coordinator(**FIELDS)
    waiting = """
        SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND datname = current_database() AND application_name = 'trialfleet-coordinator'
    """
    eventually(lambda: fleet.rows(waiting), "the second waits for the first")
    trap.go.set()
    _ends(fleet, first, second)


# A statement of each thing that a coordinator writes, in the order of a study's life.
STEPS = {
    "creating Optuna's study": "studies (study_name) VALUES ('trivial')",
    "creating ours": "INSERT INTO fleet.studies",
    "creating Optuna's final study": "studies (study_name) VALUES ('trivial.final')",
    "enqueueing the final stage": ENQUEUE,
    "storing the best agent": "INSERT INTO fleet.blobs",
    "concluding": "SET stage = 'done'",
}


# Those that can go wrong most, and one of every other kind; `make faults` runs them all.
QUICK = {
    ("creating Optuna's study", False),
    ("creating ours", False),
    ("enqueueing the final stage", False),
    ("enqueueing the final stage", True),
    ("storing the best agent", False),
    ("concluding", True),
}


@pytest.mark.parametrize(
    ("step", "written"),
    [
        pytest.param(
            step,
            written,
            id=f"{step}, {'after' if written else 'before'} its commit",
            marks=[] if (step, written) in QUICK else [pytest.mark.slow],
        )
        for step in STEPS
        for written in (False, True)
    ],
)
def test_11_kill_9_while(
    fleet: Fleet, proxy: Proxy, proxy_url: URL, step: str, written: bool
) -> None:
    trap = proxy.trap(STEPS[step], "lose reply" if written else "hold", commit=True)
    victim = fleet.coordinator(url=proxy_url, **FIELDS)
    fleet.worker(migration_patience="60")
    _spring(fleet, proxy, victim, trap)
    if step == "enqueueing the final stage":
        assert _final_trials(fleet) == (FINAL_TRIALS if written else 0)
        [study] = fleet.rows("SELECT stage FROM fleet.studies")
        assert study.stage == ("final" if written else "search")
    _ends(fleet, fleet.coordinator(**FIELDS))
    assert {attempt.outcome for attempt in fleet.attempts()} == {"finished"}
    assert {attempt.outcome for attempt in fleet.attempts(final=True)} == {"finished"}


def _spring(fleet: Fleet, proxy: Proxy, victim: Process, trap: Trap) -> None:
    assert trap.sprung.wait(PATIENCE), victim.output
    _kill_leader(fleet, victim)
    proxy.reset()


def test_11_kill_9_in_the_search_and_in_the_final_stage(fleet: Fleet) -> None:
    fields: dict[str, Any] = {"trials": 1, "top": 1, "final_seeds": 2}
    first = fleet.coordinator(**fields)
    worker = fleet.worker(steer="slow")
    searched = fleet.claimed(worker, number=0)
    _kill_leader(fleet, first)
    second = fleet.coordinator(**fields)
    _leads(fleet, second)
    worker.steer("")
    eventually(lambda: "final stage begins" in second.output, "the final stage begins")
    worker.steer("slow")
    final = fleet.claimed(worker, number=0, final=True)
    _kill_leader(fleet, second)
    third = fleet.coordinator(**fields)
    _leads(fleet, third)
    worker.steer("")
    assert third.ends() == 0, third.output
    check_invariants(fleet.database, STUDY)
    # The worker has noticed nothing: what it trained, it trained once.
    assert fleet.outcomes(0) == ["finished"]
    assert fleet.outcomes(0, final=True) == ["finished"]
    assert fleet.curve(searched.trial_id) == fleet.curve(final.trial_id) == WHOLE
    assert _final_trials(fleet) == 1
