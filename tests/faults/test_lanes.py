"""A worker with lanes: several trials at once in one process, and what becomes of them."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.faults.fleet import STUDY, WHOLE, Fleet
from tests.faults.processes import Process, eventually
from trialfleet.errors import StudyFailedError
from trialfleet.store import leases

LANES = 3


def three(fleet: Fleet, **fields: Any) -> tuple[Process, list[int]]:
    """A worker that holds three trials, and their ids; each has a checkpoint."""
    fleet.create(**{"trials": 4, **fields})
    worker = fleet.worker(steer="slow", lanes=str(LANES))

    def held() -> list[int]:
        ids = [each.trial_id for each in fleet.attempts() if each.outcome is None]
        return ids if len(ids) == LANES else []

    ids = eventually(held, "it holds three trials")
    for trial_id in ids:
        fleet.trained(trial_id)
    return worker, ids


def test_it_trains_several_trials_at_once_and_the_study_is_exact(fleet: Fleet) -> None:
    worker, _ = three(fleet)
    assert len({each.worker for each in fleet.attempts()}) == LANES
    worker.steer("")
    fleet.ends()
    assert worker.ends() == 0, worker.output
    for number in range(4):
        assert fleet.outcomes(number) == ["finished"]
    fleet.replays(0)
    fleet.replays(3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_gives_every_trial_back(fleet: Fleet, number: signal.Signals) -> None:
    worker, ids = three(fleet, max_attempts=1)
    worker.send(number)
    assert worker.ends() == 128 + number, worker.output
    assert [fleet.state(each) for each in ids] == ["WAITING"] * LANES
    assert [each.outcome for each in fleet.attempts()] == ["released"] * LANES
    heir = fleet.worker(lanes="2")
    fleet.ends()
    assert heir.output.count("resumed") == LANES
    assert [fleet.curve(each) for each in ids] == [WHOLE] * LANES
    fleet.replays(1)


def test_killed_it_loses_no_trial(fleet: Fleet) -> None:
    worker, ids = three(fleet)
    worker.kill()
    fleet.expire()
    leases.reap(fleet.database, STUDY)
    fleet.start("worker", STUDY, "--lanes", "2")
    fleet.ends()
    assert len({each.worker for each in fleet.attempts() if each.outcome == "finished"}) == 2
    assert [fleet.outcomes(n) for n in range(LANES)] == [["lost", "finished"]] * LANES
    assert [fleet.curve(each) for each in ids] == [WHOLE] * LANES
    fleet.replays(2)


def test_a_lane_that_loses_its_trial_leaves_the_others_alone(fleet: Fleet) -> None:
    worker, _ = three(fleet)
    first = fleet.attempts(0)[0]
    fleet.expire(first.fence)
    leases.reap(fleet.database, STUDY)
    worker.says("lease lost")
    worker.steer("")
    fleet.ends()
    assert worker.ends() == 0, worker.output
    assert [fleet.outcomes(n) for n in range(LANES)] == [
        ["lost", "finished"],
        ["finished"],
        ["finished"],
    ]
    fleet.replays(0)


def test_a_trainer_that_does_not_return_costs_the_other_lanes_no_attempt(fleet: Fleet) -> None:
    worker, ids = three(fleet, max_attempts=1, stall_seconds=1.0)
    worker.steer("block")
    assert worker.ends() == 7, worker.output
    # All of them are stuck; whoever finds out first gives back what the others hold.
    found = sorted(fleet.state(each) for each in ids)
    assert found[0] == "FAIL"
    assert set(found) <= {"FAIL", "WAITING"}
    assert {each.outcome for each in fleet.attempts()} <= {"finished", "released"}
    if "WAITING" in found:
        fleet.worker()
        fleet.ends()
    else:  # all found out at once: trials that fail alike from the start end a study
        with pytest.raises(StudyFailedError, match="each of 3 trials failed, and all alike"):
            fleet.ends()
