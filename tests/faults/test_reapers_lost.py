"""Who gives a lost trial back is lost too: row 12 of the faults."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import URL, Row

from tests.faults.fleet import STUDY, Fleet
from tests.faults.processes import PATIENCE, eventually
from tests.faults.proxy import Action, Proxy
from trialfleet.store import leases

GIVE_BACK = "SET state = 'WAITING'"


def _lost(fleet: Fleet) -> Row[Any]:
    """A study's only trial, whose worker was killed after a segment."""
    fleet.create(trials=1)
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim)
    fleet.trained(claim.trial_id)
    victim.kill()
    return claim


def _kill_reaper(fleet: Fleet, proxy: Proxy, url: URL, claim: Row[Any], fault: Action) -> None:
    """Kill a coordinator as it gives that trial back, when `fault` has befallen its commit."""
    trap = proxy.trap(GIVE_BACK, fault, commit=True)
    reaper = fleet.coordinator(url=url, trials=1)
    fleet.expire(claim.fence)
    assert trap.sprung.wait(PATIENCE), reaper.output
    reaper.kill()


def test_12_a_reaper_killed_while_it_gives_a_trial_back(
    fleet: Fleet, proxy: Proxy, proxy_url: URL
) -> None:
    claim = _lost(fleet)
    before = fleet.written(claim.trial_id)
    _kill_reaper(fleet, proxy, proxy_url, claim, "hold")
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
    claim = _lost(fleet)
    _kill_reaper(fleet, proxy, proxy_url, claim, "lose reply")
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
    _kill_reaper(fleet, proxy, proxy_url, _lost(fleet), "hold")
    vanished = time.monotonic()
    eventually(lambda: leases.reap(fleet.database, STUDY), "another reaper takes over", within=60.0)
    assert time.monotonic() - vanished < 45.0
    fleet.execute("UPDATE fleet.leaders SET expires_at = now()")
    fleet.worker()
    fleet.ends()
