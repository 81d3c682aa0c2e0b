"""Coordinators that are killed while a race is decided, and between two of its blocks."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import URL

from tests.faults.fleet import STEERED, STUDY, Fleet
from tests.faults.processes import PATIENCE, Process, eventually
from tests.faults.proxy import Proxy
from tests.support.invariants import check_invariants

pytestmark = pytest.mark.slow  # each starts processes twice

# Two finalists, two blocks of two seeds each, and a trial that confirms the winner.
FIELDS: dict[str, Any] = {
    **STEERED,
    "top": 2,
    "race": True,
    "final_seeds": 4,
    "confirm": 2,
}
# The same, and one trial after the other confirms the winner: its interval never becomes so narrow.
UNTIL: dict[str, Any] = {**FIELDS, "confirm": "{ width = 1e-9, most = 8 }"}
# A statement of the transaction that decides after each of the blocks.
STEPS = {"deciding to go on": "may be the best", "deciding who wins": "confirms"}
# Of the confirmation: how many blocks are decided before it, and how many trials there are then.
LOOKS = {
    "after its first block": ("2 seeds have no interval yet", 3, 5, 6),
    "after its third": ("to be 1e-09", 5, 7, 8),
    "after its last": ("and all 8 seeds are trained", 6, 8, 8),
}


def _blocks(fleet: Fleet) -> int:
    return len(fleet.rows("SELECT DISTINCT block FROM fleet.decisions"))


def _final_trials(fleet: Fleet) -> int:
    return len(
        fleet.rows("SELECT 1 FROM public.trials t JOIN fleet.studies s ON t.study_id = s.final_id")
    )


def _kill(fleet: Fleet, coordinator: Process) -> None:
    """And let the time that it would still be followed for have passed."""
    coordinator.kill()
    fleet.execute("UPDATE fleet.leaders SET expires_at = now() - interval '1 second'")


def _ends_as_decided(
    fleet: Fleet, coordinator: Process, *, blocks: int = 3, trials: int = 5, decisions: int = 6
) -> None:
    assert coordinator.ends() == 0, coordinator.output
    check_invariants(fleet.database, STUDY)
    assert _blocks(fleet) == blocks
    assert _final_trials(fleet) == trials
    # What was decided is what follows from the trials, as if nobody had been killed.
    replay = fleet.start("replay", STUDY, "--decisions")
    assert replay.ends() == 0, replay.output
    assert f"{decisions} decisions: equal to the bit" in replay.output


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("written", [False, True], ids=["before its commit", "after its commit"])
def test_11_kill_9_while(
    fleet: Fleet, proxy: Proxy, proxy_url: URL, step: str, written: bool
) -> None:
    trap = proxy.trap(STEPS[step], "lose reply" if written else "hold", commit=True)
    victim = fleet.coordinator(url=proxy_url, **FIELDS)
    fleet.worker(migration_patience="60")
    assert trap.sprung.wait(PATIENCE), victim.output
    _kill(fleet, victim)
    proxy.reset()
    # The decisions and the trials that follow from them are both there, or neither is.
    before = 1 if step == "deciding to go on" else 2
    if written:
        assert _blocks(fleet) == before + 1
        assert _final_trials(fleet) == 2 * before + (2 if before == 1 else 1)
    else:
        assert (_blocks(fleet), _final_trials(fleet)) == (before, 2 * before)
    _ends_as_decided(fleet, fleet.coordinator(**FIELDS))
    assert {attempt.outcome for attempt in fleet.attempts(final=True)} == {"finished"}


def test_11_kill_9_between_two_blocks(fleet: Fleet) -> None:
    first = fleet.coordinator(**FIELDS)
    worker = fleet.worker()
    eventually(lambda: _blocks(fleet) == 2, "the first block is decided")
    worker.steer("slow")
    _kill(fleet, first)
    # The second block is trained to its end, and nobody is there to decide.
    worker.steer("")
    query = """
        SELECT 1 FROM public.trials t JOIN fleet.studies s ON t.study_id = s.final_id
        WHERE t.state = 'COMPLETE'
    """
    eventually(lambda: len(fleet.rows(query)) == 4, "the second block is trained")
    _ends_as_decided(fleet, fleet.coordinator(**FIELDS))


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("written", [False, True], ids=["before its commit", "after its commit"])
def test_11_kill_9_while_the_winner_is_confirmed(
    fleet: Fleet, proxy: Proxy, proxy_url: URL, look: str, written: bool
) -> None:
    words, blocks, trials, then = LOOKS[look]
    trap = proxy.trap(words, "lose reply" if written else "hold", commit=True)
    victim = fleet.coordinator(url=proxy_url, **UNTIL)
    fleet.worker(migration_patience="60")
    assert trap.sprung.wait(PATIENCE), victim.output
    _kill(fleet, victim)
    proxy.reset()
    # A look and the block that follows from it are both there, or neither is.
    found = (_blocks(fleet), _final_trials(fleet))
    assert found == ((blocks + 1, then) if written else (blocks, trials))
    _ends_as_decided(fleet, fleet.coordinator(**UNTIL), blocks=7, trials=8, decisions=10)
    assert {attempt.outcome for attempt in fleet.attempts(final=True)} == {"finished"}


def test_11_kill_9_between_two_looks_at_the_confirmation(fleet: Fleet) -> None:
    first = fleet.coordinator(**UNTIL)
    worker = fleet.worker()
    eventually(lambda: _blocks(fleet) == 4, "the confirmation was looked at once")
    worker.steer("slow")
    _kill(fleet, first)
    # The next block is trained to its end, and nobody is there to look at it.
    worker.steer("")
    query = """
        SELECT 1 FROM public.trials t JOIN fleet.studies s ON t.study_id = s.final_id
        WHERE t.state IN ('RUNNING', 'WAITING')
    """
    eventually(lambda: not fleet.rows(query), "what was enqueued is trained")
    there = _final_trials(fleet)
    assert _blocks(fleet) + 2 == there  # each confirming block is one trial
    _ends_as_decided(fleet, fleet.coordinator(**UNTIL), blocks=7, trials=8, decisions=10)
