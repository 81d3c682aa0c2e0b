"""Eight workers on one grid: each configuration is completed once, whatever fails or is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from uuid import uuid4

from optuna.trial import TrialState

from coordinator.create import create_or_join
from tests.support.studies import LEASE, at_once, expire, finish, take
from trialfleet.store import leases
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
