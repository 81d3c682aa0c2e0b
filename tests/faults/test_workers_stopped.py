"""Workers that are stopped, and ones that were paused for too long: rows 2 and 3 of the faults."""

from __future__ import annotations

import signal
import time

import pytest
from sqlalchemy import URL

from tests.faults.fleet import LEASE, SEGMENT, SEGMENTS, STUDY, WHOLE, Fleet
from tests.faults.processes import PATIENCE, Process, eventually
from tests.faults.proxy import Proxy, Trap
from trialfleet.store import leases

CLAIM = "fleet.claim("
EXTEND = "fleet.beat("
FINISH = "fleet.finish("
REPORT = "fleet.report("


def test_02_sigterm_gives_the_trial_back_with_a_checkpoint(fleet: Fleet) -> None:
    # One attempt only: what a preemption spent, the heir would not have.
    fleet.create(trials=1, max_attempts=1)
    preempted = fleet.worker(steer="slow", checkpoint_every="3600", cold=True)
    claim = fleet.claimed(preempted)
    eventually(lambda: len(fleet.curve(claim.trial_id)) >= 2, "two segments are reported")
    assert fleet.checkpoint(claim.trial_id) is None
    preempted.send(signal.SIGTERM)
    assert preempted.ends() == 143
    assert fleet.outcomes(0) == ["released"]
    assert fleet.state(claim.trial_id) == "WAITING"
    assert (fleet.checkpoint(claim.trial_id) or 0) >= 2 * SEGMENT
    heir = fleet.worker()
    fleet.ends()
    assert "resumed" in heir.output
    assert fleet.outcomes(0) == ["released", "finished"]
    assert fleet.curve(claim.trial_id) == WHOLE
    fleet.replays(0)


def test_02_interrupted_three_times_it_is_equal_to_the_bit(fleet: Fleet) -> None:
    fleet.create(trials=1)
    fleet.note_reports()
    trained = 0
    for interruption in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        worker = fleet.worker(steer="slow")
        claim = fleet.claimed(worker, number=0)
        # Each attempt adds something of its own.
        trained = trained // SEGMENT + 2
        fleet.trained(claim.trial_id, segments=trained)
        worker.send(interruption)
        assert worker.ends() == 128 + interruption
        fleet.expire()
        leases.reap(fleet.database, STUDY)
        trained = fleet.checkpoint(claim.trial_id) or 0
        assert 0 < trained < SEGMENT * (SEGMENTS - 2)
    last = fleet.worker()
    fleet.ends()
    assert fleet.outcomes(0) == ["released", "lost", "released", "finished"]
    assert f"step={trained}" in last.output
    # What was trained is not trained again.
    assert fleet.reported(fleet.attempts(0)[-1].fence) == WHOLE[trained // SEGMENT :]
    assert fleet.curve(claim.trial_id) == WHOLE
    fleet.replays(0)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_02_a_stop_does_not_wait_for_the_segments_end(
    fleet: Fleet, number: signal.Signals, code: int
) -> None:
    # A segment of hours.
    steps = 10_000_000
    fleet.create(trials=1, env="CartPole-v1", train_steps=steps, eval_every=steps)
    worker = fleet.worker()
    claim = fleet.claimed(worker)
    progress = "SELECT step FROM fleet.workers WHERE step > 0"
    eventually(lambda: fleet.rows(progress), "the training goes on")
    worker.send(number)
    asked = time.monotonic()
    assert worker.ends() == code
    # Two seconds are promised; the rest is for a machine that is busy with other tests.
    assert time.monotonic() - asked < 4.0
    assert fleet.state(claim.trial_id) == "WAITING"
    assert fleet.outcomes(0) == ["released"]


def test_02_a_second_sigterm_stops_at_once(fleet: Fleet) -> None:
    fleet.create(trials=1)
    stuck = fleet.worker(steer="block")
    claim = fleet.claimed(stuck)

    def ended() -> bool:
        if stuck.code is None:
            stuck.send(signal.SIGTERM)  # two that arrive together count as one, so there are more
        return stuck.code is not None

    eventually(ended, "it stops although its training does not return")
    assert stuck.code == 143
    assert fleet.state(claim.trial_id) == "RUNNING"  # no time to give it back
    fleet.expire(claim.fence)
    fleet.worker()
    fleet.ends()
    assert fleet.outcomes(0) == ["lost", "finished"]


def test_02_kill_9_after_the_grace_time(fleet: Fleet) -> None:
    fleet.create(trials=1)
    stuck = fleet.worker(steer="block")
    claim = fleet.claimed(stuck)
    stuck.send(signal.SIGTERM)
    stuck.kill()
    fleet.expire(claim.fence)
    fleet.worker()
    fleet.ends()
    assert fleet.outcomes(0) == ["lost", "finished"]
    assert fleet.curve(claim.trial_id) == WHOLE


def test_03_a_zombie_drops_the_trial_and_claims_the_next(fleet: Fleet) -> None:
    fleet.create(trials=2)
    zombie = fleet.worker(steer="slow")
    claim = fleet.claimed(zombie)
    fleet.trained(claim.trial_id)
    zombie.send(signal.SIGSTOP)
    zombie.steer("")
    stopped = time.monotonic()
    heir = fleet.worker()
    eventually(lambda: fleet.state(claim.trial_id) == "COMPLETE", "the heir completes the trial")
    assert time.monotonic() - stopped > LEASE / 2  # it was not taken from a living worker
    before = fleet.written(claim.trial_id)
    heir.kill()  # what is left, the zombie has to do
    zombie.send(signal.SIGCONT)
    zombie.says("lease lost")
    fleet.ends()
    assert zombie.ends() == 0
    assert fleet.outcomes(0) == ["lost", "finished"]
    assert fleet.attempts(0)[0].worker in {a.worker for a in fleet.attempts(0, final=True)}
    before["fleet.checkpoints"] = []
    assert fleet.written(claim.trial_id) == before


def _held(fleet: Fleet, proxy: Proxy, url: URL, statement: str) -> tuple[Trap, Process]:
    """A worker whose statement is on its way, and what holds it."""
    fleet.create(trials=1)
    trap = proxy.trap(statement, "hold")
    zombie = fleet.worker(url=url)
    assert trap.sprung.wait(PATIENCE), zombie.output
    return trap, zombie


@pytest.mark.parametrize("statement", [REPORT, FINISH])
def test_03_a_zombies_write_on_its_way_is_refused(
    fleet: Fleet, proxy: Proxy, proxy_url: URL, statement: str
) -> None:
    trap, zombie = _held(fleet, proxy, proxy_url, statement)
    zombie.send(signal.SIGSTOP)
    [attempt] = fleet.attempts(0)
    fleet.expire(attempt.fence)
    heir = fleet.worker()
    eventually(lambda: fleet.state(attempt.trial_id) == "COMPLETE", "the heir completes the trial")
    before = fleet.written(attempt.trial_id)
    trap.go.set()  # the statement arrives, under a fence that is no longer the trial's lease
    zombie.send(signal.SIGCONT)
    zombie.says("lease lost")
    fleet.ends()
    assert zombie.ends() == heir.ends() == 0
    assert fleet.outcomes(0) == ["lost", "finished"]
    before["fleet.checkpoints"] = []
    assert fleet.written(attempt.trial_id) == before


@pytest.mark.parametrize("statement", [REPORT, "INSERT INTO fleet.checkpoints"])
def test_03_a_zombies_write_while_its_heir_trains_is_refused(
    fleet: Fleet, proxy: Proxy, proxy_url: URL, statement: str
) -> None:
    trap, zombie = _held(fleet, proxy, proxy_url, statement)
    [attempt] = fleet.attempts(0)
    fleet.expire(attempt.fence)
    heir = fleet.worker(steer="block")
    fleet.claimed(heir)
    before = fleet.written(attempt.trial_id)
    trap.go.set()
    zombie.says("lease lost")
    # Nothing but the fence speaks against it: the trial is RUNNING, and the heir has said nothing.
    assert fleet.written(attempt.trial_id) == before
    heir.steer("")
    fleet.ends()
    assert zombie.ends() == heir.ends() == 0
    assert fleet.outcomes(0) == ["lost", "finished"]
    assert fleet.curve(attempt.trial_id) == WHOLE


def test_3_a_zombie_that_is_stopped_when_it_wakes_up_says_so(fleet: Fleet) -> None:
    """Its trial is another's by then; that is no error, and does not hide that it was stopped."""
    fleet.create(trials=1)
    zombie = fleet.worker(steer="slow")
    claim = fleet.claimed(zombie)
    fleet.trained(claim.trial_id)
    zombie.send(signal.SIGSTOP)
    fleet.expire(claim.fence)
    assert [lost.number for lost in leases.reap(fleet.database, STUDY)] == [0]
    zombie.send(signal.SIGTERM)
    zombie.send(signal.SIGCONT)
    assert zombie.ends() == 143, zombie.output
    assert fleet.outcomes(0) == ["lost"]
