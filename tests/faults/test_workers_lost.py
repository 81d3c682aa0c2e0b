"""Workers that are killed: rows 1, 13, 17 and 25 of the faults."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import URL

from coordinator.watch import step
from tests.faults.fleet import LEASE, SEGMENT, STUDY, WHOLE, Fleet
from tests.faults.processes import PATIENCE, eventually
from tests.faults.proxy import Proxy
from tests.support.studies import take, train_by_hand
from trialfleet.store import leases

CLAIM = "fleet.claim("
EXTEND = "fleet.beat(1,"  # under the first fence
FINISH = "fleet.finish("
REPORT = "fleet.report("


def test_01_kill_9_mid_segment(fleet: Fleet) -> None:
    fleet.create(trials=1)
    fleet.note_reports()
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim)
    heir = fleet.worker()
    fleet.trained(claim.trial_id)
    victim.kill()
    killed = time.monotonic()
    eventually(lambda: len(fleet.attempts(0)) == 2, "the heir takes the trial")
    # Lease and poll, and a margin for a machine that has other things to do.
    assert time.monotonic() - killed < LEASE + 3.0
    fleet.ends()
    assert "resumed" in heir.output
    # From the last segment, or from the one before if its checkpoint was on its way.
    lost, again = (fleet.reported(attempt.fence) for attempt in fleet.attempts(0))
    assert again == [step for step in WHOLE if step >= again[0]]
    assert lost[-1] <= again[0] <= lost[-1] + SEGMENT
    assert fleet.outcomes(0) == ["lost", "finished"]
    assert fleet.curve(claim.trial_id) == WHOLE
    assert heir.ends() == 0
    fleet.replays(0)


def test_01_kill_9_before_the_first_checkpoint_starts_clean(fleet: Fleet) -> None:
    fleet.create(trials=1)
    victim = fleet.worker(steer="slow", checkpoint_every="3600")
    claim = fleet.claimed(victim)
    eventually(lambda: len(fleet.curve(claim.trial_id)) >= 2, "two segments are reported")
    victim.kill()
    fleet.expire(claim.fence)
    leases.reap(fleet.database, STUDY)
    heir = fleet.worker(steer="block")
    fleet.claimed(heir)
    assert fleet.curve(claim.trial_id) == []
    heir.steer("")
    fleet.ends()
    assert fleet.outcomes(0) == ["lost", "finished"]
    assert fleet.curve(claim.trial_id) == WHOLE


def test_01_the_next_claim_takes_the_lost_trial_up_without_a_coordinator(fleet: Fleet) -> None:
    fleet.create(trials=2)
    victim = fleet.worker(steer="block")
    claim = fleet.claimed(victim)
    victim.kill()
    fleet.expire(claim.fence)
    heir = fleet.worker(steer="block")
    assert fleet.claimed(heir).trial_id == claim.trial_id  # not the second one, which nobody has
    heir.steer("")
    fleet.ends()
    assert fleet.outcomes(0) == ["lost", "finished"]


@pytest.mark.parametrize("point", ["just claimed", "before its first extension"])
def test_01_kill_9_at_the_start(fleet: Fleet, proxy: Proxy, proxy_url: URL, point: str) -> None:
    fleet.create(trials=1)
    if point == "just claimed":
        trap = proxy.trap(CLAIM, "lose reply", commit=True)
    else:
        trap = proxy.trap(EXTEND, "hold")
    victim = fleet.worker(steer="slow", url=proxy_url)
    assert trap.sprung.wait(PATIENCE), victim.output
    victim.kill()
    proxy.reset()
    [attempt] = fleet.attempts(0)
    assert fleet.state(attempt.trial_id) == "RUNNING"
    fleet.expire(attempt.fence)
    fleet.worker()
    fleet.ends()
    assert fleet.outcomes(0) == ["lost", "finished"]
    assert fleet.curve(attempt.trial_id) == WHOLE


@pytest.mark.parametrize("written", [False, True], ids=["before finishing", "after finishing"])
def test_01_kill_9_at_the_end(fleet: Fleet, proxy: Proxy, proxy_url: URL, written: bool) -> None:
    fleet.create(trials=1)
    trap = proxy.trap(FINISH, "lose reply" if written else "hold", commit=True)
    victim = fleet.worker(url=proxy_url)
    assert trap.sprung.wait(PATIENCE), victim.output
    victim.kill()
    proxy.reset()
    [attempt] = fleet.attempts(0)
    assert fleet.state(attempt.trial_id) == ("COMPLETE" if written else "RUNNING")
    before = fleet.written(attempt.trial_id)
    if not written:
        fleet.expire(attempt.fence)
    heir = fleet.worker()
    fleet.ends()
    assert ("resumed" in heir.output) is not written
    assert fleet.outcomes(0) == (["finished"] if written else ["lost", "finished"])
    if written:
        before["fleet.checkpoints"] = []  # the coordinator sweeps them
        assert fleet.written(attempt.trial_id) == before


def test_13_last_trials_worker_killed_while_the_others_are_idle(fleet: Fleet) -> None:
    fleet.create(trials=2)
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim)
    idle = fleet.worker()
    eventually(lambda: "finished" in fleet.outcomes(1), "the other trial is done")
    victim.kill()
    fleet.expire(claim.fence)
    fleet.ends()
    assert fleet.outcomes(0) == ["lost", "finished"]
    assert idle.ends() == 0


def test_13_the_coordinator_takes_a_trial_back_with_no_worker_left(fleet: Fleet) -> None:
    fleet.create(trials=1)
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim)
    victim.kill()
    coordinator = fleet.coordinator(trials=1)
    fleet.expire(claim.fence)
    coordinator.says("took back a lost trial")
    assert fleet.state(claim.trial_id) == "WAITING"
    fleet.worker()
    assert coordinator.ends() == 0
    fleet.ends()


def test_17_out_of_memory_again_and_again_on_one_configuration(fleet: Fleet) -> None:
    study = fleet.create(trials=3, max_attempts=2)
    for _ in range(2):
        worker = fleet.worker(steer="block")
        claim = fleet.claimed(worker, number=0)
        worker.kill()
        fleet.expire(claim.fence)
        assert [lost.number for lost in leases.reap(fleet.database, STUDY)] == [0]
    survivor = fleet.worker()
    fleet.ends()
    assert survivor.ends() == 0
    assert fleet.outcomes(0) == ["lost", "lost"]
    trials = fleet.database.optuna_study(STUDY).get_trials()
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert "lost with its worker twice" in trials[0].user_attrs["reason"]
    assert claim.worker in trials[0].user_attrs["reason"]
    assert study.budget == 3


def test_17_nobody_can_be_lost_more_often_than_the_study_allows(fleet: Fleet) -> None:
    # Every trial kills its worker: the study must end with the reason, not go on for ever.
    fleet.create(trials=1, max_attempts=1, max_failures=1, top=1)
    for number in range(2):
        worker = fleet.worker(steer="block")
        claim = fleet.claimed(worker, number=number)
        worker.kill()
        fleet.expire(claim.fence)
        assert leases.reap(fleet.database, STUDY)
    coordinator = fleet.coordinator(trials=1, max_attempts=1, max_failures=1, top=1)
    assert coordinator.ends() == 4
    assert "lost with its worker once" in coordinator.output
    assert fleet.worker().ends() == 0  # it has heard that there is nothing to do


def test_25_final_stage_worker_killed_during_a_seed(fleet: Fleet) -> None:
    study = fleet.create(trials=1, final_seeds=4)
    train_by_hand(fleet.database, study, take(fleet.database), scores=[1.0, 2.0])
    assert step(fleet.database, STUDY).stage == "final"
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim, final=True)
    fleet.trained(claim.trial_id)
    victim.kill()
    fleet.expire(claim.fence)
    heir = fleet.worker()
    study = fleet.ends()
    assert "resumed" in heir.output
    assert fleet.outcomes(claim.number, final=True) == ["lost", "finished"]
    searched = fleet.database.optuna_study(STUDY).get_trials()[0].user_attrs["seeds"]
    fresh = [
        seed
        for trial in fleet.database.optuna_study(study.final_name).get_trials()
        for seed in trial.user_attrs["seeds"]
    ]
    assert len(fresh) == len(set(fresh)) == 4
    assert not set(fresh) & set(searched)
    fleet.replays(claim.number, final=True)
