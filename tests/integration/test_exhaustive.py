"""Eight workers on one grid: each configuration is completed once, whatever fails or is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from uuid import uuid4

import pytest
from optuna.trial import TrialState

from coordinator.create import create_or_join
from tests.support.studies import LEASE, at_once, expire, finish, take
from trialfleet.errors import SteeringError
from trialfleet.store import leases, studies
from trialfleet.store.steering import adding, course
from trialfleet.store.steering.importing import Result, import_results, plan
from trialfleet.store.storage import Database
from trialfleet.study.file import parse
from worker.configuration import open_trial

STUDY = """
name = "grid"
seed = 3
[agent]
double_q = { choices = [true, false] }
exploration_final_eps = { low = 0.0, high = 0.1, step = 0.05, when = { double_q = true } }
net_arch = { layers = { low = 1, high = 2 }, width = { choices = [32, 64, 128] } }
[search]
sampler = "brute_force"
trials = 500
max_failures = 100
[final]
top = 1
"""
ALL = [{"gamma": gamma, "tau": tau} for gamma in (0.9, 0.98) for tau in (0.2, 1.0)]
COUNT = (3 + 1) * (3 + 9)


def test_each_configuration_once(open_database: Callable[[], Database]) -> None:
    database = open_database()
    spec = parse(STUDY, source="grid.toml")
    study = create_or_join(database, spec)
    assert study.budget == COUNT
    waiting = database.optuna_study("grid")
    # One that is a configuration, and one that leaves most of it to the sampler.
    waiting.enqueue_trial({"double_q": False, "net_arch.layers": 1, "net_arch.width_1": 64})
    waiting.enqueue_trial({"net_arch.layers": 2})
    for each in range(2):
        claim = take(database, "grid")
        opened = open_trial(
            database, study, claim, storage=database.optuna_storage(claim.fence), device="cpu"
        )
        assert len(opened.job.knobs["net_arch"]) == each + 1
        # The second is lost before it ends: whoever takes it up finds its parameters.
        if each == 0:
            finish(database, claim)
    expire(database)

    def work(own: Database, slot: int) -> None:
        rng = random.Random(slot)
        while claim := leases.claim(
            own, "grid", worker=f"{slot}", claim_id=uuid4(), lease_seconds=LEASE
        ):
            open_trial(own, study, claim, storage=own.optuna_storage(claim.fence), device="cpu")
            match rng.random():
                case draw if draw < 0.2:
                    finish(own, claim, state="FAIL")
                case draw if draw < 0.3:
                    leases.release(own, claim)
                case draw if draw < 0.4:
                    finish(own, claim, state="PRUNED")
                case _:
                    finish(own, claim)

    others = [open_database() for _ in range(8)]
    at_once(*(lambda own=own, slot=slot: work(own, slot) for slot, own in enumerate(others)))
    # Whoever found nothing while the others' last trials ran may have left a failure's successor.
    work(database, 9)
    trials = database.optuna_study("grid").get_trials(deepcopy=False)
    states = Counter(trial.state for trial in trials)
    assert states[TrialState.FAIL] > 0
    assert states.total() == COUNT + states[TrialState.FAIL]
    found = Counter(
        tuple(sorted(trial.params.items())) for trial in trials if trial.state != TrialState.FAIL
    )
    assert (len(found), set(found.values())) == (COUNT, {1})


SMALL = """
name = "grid"
[agent]
gamma = { low = 0.9, high = 0.98 }
tau = { low = 0.2, high = 1.0 }
[search]
sampler = { name = "grid", points_per_range = 2 }
trials = 7
[final]
top = 1
"""


def test_the_budget_is_what_there_is_to_try(database: Database) -> None:
    study = create_or_join(database, parse(SMALL, source="grid.toml"))
    assert study.budget == 4

    def work() -> dict[str, float]:
        claim = take(database, "grid")
        storage = database.optuna_storage(claim.fence)
        knobs = open_trial(database, study, claim, storage=storage, device="cpu").job.knobs
        finish(database, claim)
        return {name: knobs[name] for name in ("gamma", "tau")}

    found = [work()]
    # Results from elsewhere are none of the four.
    known = [
        Result(where="a.csv", number=number, values=[1.0], params={"gamma": 0.9, "tau": 0.2})
        for number in range(2)
    ]
    import_results(database, study, plan(known, study.spec))
    found.append(work())
    # This is none either, and that is one of them.
    adding.enqueue(database, study, {"gamma": 0.95})
    assert studies.find(database, "grid").asked == 5
    adding.enqueue(database, study, next(each for each in ALL if each not in found))
    assert studies.find(database, "grid").asked == 5
    found += [work() for _ in range(3)]
    with pytest.raises(AssertionError):
        take(database, "grid")
    assert found.pop(2)["gamma"] == 0.95
    assert sorted(found, key=str) == sorted(ALL, key=str)
    with pytest.raises(SteeringError, match="6 is more than the 5 configurations that 'grid' has"):
        course.extend(database, study, 6)
    # One of them again is what somebody wants; search.trials bounds how often.
    for budget in (6, 7):
        adding.enqueue(database, study, ALL[0])
        assert studies.find(database, "grid").asked == budget
        assert work() == ALL[0]
    with pytest.raises(SteeringError, match="all 7 trials of 'grid' are trained"):
        adding.enqueue(database, study, ALL[0])
    # Where somebody wants fewer than all, it is one of those.
    other = create_or_join(database, parse(SMALL.replace("grid", "other", 1), source="o.toml"))
    course.stop(database, other, "by hand")
    assert course.extend(database, other, 3).asked == 3
    adding.enqueue(database, other, {"gamma": 0.95})
    assert studies.find(database, "other").asked == 3
