"""Who gives a lost trial back is lost too: row 12 of the faults."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import URL

from tests.faults.fleet import STUDY, Fleet
from tests.faults.processes import PATIENCE, eventually
from tests.faults.proxy import Proxy
from tuning import leases

GIVE_BACK = "SET state = 'WAITING'"


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
