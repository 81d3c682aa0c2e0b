"""Workers that are killed, stopped and paused: rows 1, 2, 3, 13, 17, 24 and 25 of the faults."""

from __future__ import annotations

import signal
import time

import pytest
from sqlalchemy import URL

from coordinator.watch import step
from tests.faults.fleet import LEASE, SEGMENT, SEGMENTS, STUDY, WHOLE, Fleet
from tests.faults.processes import PATIENCE, Process, eventually
from tests.faults.proxy import Proxy
from tests.support.studies import take, train_by_hand
from tuning import leases

CLAIM = "INSERT INTO fleet.attempts"
EXTEND = "UPDATE fleet.attempts SET expires_at"
FINISH = "SET state = 'COMPLETE'"
REPORT = "INSERT INTO trial_intermediate_values"


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


@pytest.mark.parametrize("statement", [REPORT, "INSERT INTO fleet.curves", FINISH])
def test_03_a_zombies_write_on_its_way_is_refused(
    fleet: Fleet, proxy: Proxy, proxy_url: URL, statement: str
) -> None:
    fleet.create(trials=1)
    trap = proxy.trap(statement, "hold")
    zombie = fleet.worker(url=proxy_url)
    assert trap.sprung.wait(PATIENCE), zombie.output
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
    fleet.create(trials=1)
    trap = proxy.trap(statement, "hold")
    zombie = fleet.worker(url=proxy_url)
    assert trap.sprung.wait(PATIENCE), zombie.output
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
    assert "2 workers were lost" in trials[0].user_attrs["reason"]
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
    assert "1 workers were lost while they ran it" in coordinator.output
    assert fleet.worker().ends() == 0  # it has heard that there is nothing to do


def _scale(fleet: Fleet, many: int, more: int) -> None:
    """Scale many -> 1 -> more; then restart all under the same host names and process ids."""
    fleet.create(trials=many + more, train_steps=SEGMENT * 4)

    def up(count: int, steer: str) -> list[Process]:
        return [
            fleet.worker(steer=steer, FAULTS_HOST=f"box-{slot}", lease_seconds="600")
            for slot in range(count)
        ]

    def open_fences() -> list[int]:
        return [attempt.fence for attempt in fleet.attempts() if attempt.outcome is None]

    first = up(many, "slow")
    eventually(lambda: len(open_fences()) == many, f"{many} trials are under way")
    for process in first[1:]:
        process.send(signal.SIGTERM)
    for process in first[1:]:
        assert process.ends() == 143
    first[0].kill()
    old = {attempt.fence: attempt for attempt in fleet.attempts() if attempt.outcome is None}
    assert len(old) == 1
    query = "SELECT fence, expires_at FROM fleet.attempts WHERE fence = ANY(:fences)"
    expires = fleet.rows(query, fences=list(old))

    second = up(more, "block")
    eventually(lambda: len(open_fences()) == len(old) + more, f"{more} more trials are under way")
    beats = "SELECT 1 FROM fleet.workers WHERE seen_at > started_at AND ended_at IS NULL"
    eventually(lambda: len(fleet.rows(beats)) >= more, "every worker says that it is alive")
    # Same host, same process id, and yet nobody extends what is not its own.
    assert fleet.rows(query, fences=list(old)) == expires
    for process in second:
        process.kill()
    names = [attempt.worker for attempt in fleet.attempts()]
    assert len(set(names)) == len(names) == many + more

    third = up(more, "")
    eventually(lambda: sum("claimed" in process.output for process in third) > 0, "they work")
    fleet.expire(*(attempt.fence for attempt in fleet.attempts() if attempt.worker in names))
    fleet.ends(within=300.0)
    for process in third:
        assert process.ends() == 0
    assert len(fleet.rows("SELECT 1 FROM fleet.workers")) == many + 2 * more


def test_24_scale_up_and_down_under_the_same_host_names(fleet: Fleet) -> None:
    _scale(fleet, 3, 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_24_scale_8_1_32_under_the_same_host_names(fleet: Fleet) -> None:
    _scale(fleet, 8, 32)


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
