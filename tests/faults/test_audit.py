"""A pruned trial that is trained to its end for the audit ends by its verdict, whoever is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import FrozenTrial
from sqlalchemy import text

from tests.faults.fleet import SEGMENT, SEGMENTS, STUDY, Fleet
from tests.faults.processes import eventually
from tests.support.studies import take, train_by_hand
from trialfleet.store import leases
from trialfleet.store.leases import Claim
from trialfleet.store.studies import Study
from trialfleet.store.trials import verdicts
from trialfleet.store.trials.verdicts import StoredVerdict

MEDIAN = '{ name = "median", n_startup_trials = 1 }'
HALVING = '{ name = "successive_halving", reduction_factor = 2 }'


NUMBER = 3  # of the audited trial


def by_hand(fleet: Fleet, study: Study, claim: Claim, score: float) -> None:
    """Complete a trial, for either pruner to compare others with."""
    with fleet.database.transaction(claim.fence) as connection:
        verdicts.set_system_attributes(connection, claim.trial_id, {"completed_rung_0": score})
    train_by_hand(fleet.database, study, claim, scores=[score, score], early=score)


def pruned_by_a_better_one(fleet: Fleet, pruner: str = MEDIAN, **fields: Any) -> Callable[[], None]:
    """A study whose first trial was so good that the next one is pruned at its first report.

    Returns:
        Completes two trials that are worse: judged after that, it would not be pruned.
    """
    study = fleet.create(trials=4, pruner=pruner, audit=1.0, **fields)
    better, *worse = (take(fleet.database) for _ in range(NUMBER))
    by_hand(fleet, study, better, 1e6)

    def complete() -> None:
        for claim in worse:
            by_hand(fleet, study, claim, -1e6)

    return complete


def verdict_on(fleet: Fleet, trial_id: int) -> StoredVerdict | None:
    with fleet.database.transaction() as connection:
        return verdicts.read(connection, trial_id)


@pytest.mark.parametrize("pruner", [MEDIAN, HALVING], ids=["median", "halving"])
@pytest.mark.parametrize("every", ["0", "3600"], ids=["after its verdict", "from the start"])
def test_a_lost_audited_trial_ends_by_the_same_verdict(
    fleet: Fleet, every: str, pruner: str
) -> None:
    complete_worse_ones = pruned_by_a_better_one(fleet, pruner)
    victim = fleet.worker(steer="slow", checkpoint_every=every)
    claim = fleet.claimed(victim, number=NUMBER)
    first = eventually(lambda: verdict_on(fleet, claim.trial_id), "the trial is pruned")
    assert first is not None
    if every == "0":
        eventually(
            lambda: (fleet.checkpoint(claim.trial_id) or 0) > SEGMENT, "it is trained past that"
        )
    victim.kill()
    complete_worse_ones()
    fleet.expire(claim.fence)
    heir = fleet.worker(name="heir")
    fleet.ends()
    assert ("resumed" in heir.output) is (every == "0")

    trial = fleet.database.optuna_study(STUDY).get_trials()[NUMBER]
    assert trial.state.name == "PRUNED"
    assert first.step == SEGMENT
    assert trial.value == first.value
    assert trial.user_attrs["scores"] == first.attributes["scores"]
    assert trial.user_attrs["pruned_by"] == first.attributes["pruned_by"]
    assert trial.user_attrs["pruned_by"]["threshold"] == 1e6
    assert trial.user_attrs["attempts"] == 2
    audit = trial.user_attrs["audit"]
    assert len(audit["scores"]) == 2
    assert audit["steps"] == SEGMENT * (SEGMENTS - 1) * 2
    # Others learn no more of it than they had of a trial that ended there.
    assert fleet.curve(claim.trial_id) == [SEGMENT]
    rungs = {key for key in trial.system_attrs if key.startswith("completed_rung_")}
    assert rungs == ({"completed_rung_0"} if pruner == HALVING else set())
    fleet.replays(NUMBER)
    if (every, pruner) == ("0", MEDIAN):
        a_replay_notices_another_audit(fleet, trial)
    status = fleet.start("status", STUDY)
    assert status.ends() == 0
    assert "pruning audit: 1 pruned trial trained to the end, 0 of them" in status.output


def a_replay_notices_another_audit(fleet: Fleet, trial: FrozenTrial) -> None:
    altered = {**trial.user_attrs["audit"], "scores": [1.0, 2.0]}
    with fleet.database.transaction() as connection:
        table = "public.trial_user_attributes"
        connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER fleet_guard"))
        statement = f"UPDATE {table} SET value_json = :value WHERE key = 'audit'"
        assert connection.execute(text(statement), {"value": json.dumps(altered)}).rowcount == 1
        connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER fleet_guard"))
    again = fleet.start("replay", STUDY, str(NUMBER))
    assert again.ends() == 1
    assert "DIFFERENT: audit" in again.output
    assert "NOT equal" in again.output


def test_an_audited_trial_that_loses_too_many_workers_is_pruned_all_the_same(fleet: Fleet) -> None:
    pruned_by_a_better_one(fleet, max_attempts=1)
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim, number=NUMBER)
    eventually(lambda: verdict_on(fleet, claim.trial_id), "the trial is pruned")
    victim.kill()
    fleet.expire(claim.fence)
    [lost] = leases.reap(fleet.database, STUDY)
    assert lost.state == "PRUNED"
    trial = fleet.database.optuna_study(STUDY).get_trials()[NUMBER]
    assert trial.state.name == "PRUNED"
    assert "lost with its worker" in trial.user_attrs["audit"]["reason"]
    assert trial.user_attrs["attempts"] == 1


def test_an_audited_trial_that_fails_after_its_verdict_is_pruned(fleet: Fleet) -> None:
    complete_worse_ones = pruned_by_a_better_one(fleet)
    worker = fleet.worker(steer="slow")
    claim = fleet.claimed(worker, number=NUMBER)
    eventually(lambda: verdict_on(fleet, claim.trial_id), "the trial is pruned")
    worker.steer("raise")
    eventually(lambda: fleet.state(claim.trial_id) == "PRUNED", "it ends by its verdict")
    worker.steer("")
    complete_worse_ones()
    fleet.ends()
    trial = fleet.database.optuna_study(STUDY).get_trials()[NUMBER]
    assert trial.user_attrs["audit"]["reason"].startswith("RuntimeError: boom")
    assert "Traceback (most recent call last)" in trial.user_attrs["audit"]["traceback"]
    assert "reason" not in trial.user_attrs
