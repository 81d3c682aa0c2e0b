"""The final stage: who is in it, on which seeds, who wins, and which agent is saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from coordinator.final import begin_final
from coordinator.result import conclude
from coordinator.watch import step
from tests.support.invariants import check_invariants
from tests.support.studies import (
    at_once,
    create,
    finish,
    model_arrays,
    states,
    take,
    take_all,
    train_by_hand,
)
from trialfleet.artifacts import blobs
from trialfleet.artifacts.blobs import Stored
from trialfleet.artifacts.stores import open_store
from trialfleet.seeds import fresh_seeds
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

Open = Callable[[], Database]


def searched(
    database: Database, scores: Sequence[float], *, early: Sequence[float] = (), **fields: Any
) -> Study:
    """A study whose search has ended; trial i scored `scores[i]`."""
    study = create(database, trials=len(scores), train_steps=32, **fields)
    for score, height in zip(scores, early or [0.0] * len(scores), strict=True):
        agents = [score] * study.spec.task.seeds
        train_by_hand(database, study, take(database), scores=agents, early=height)
    return study


def begun(database: Database, scores: Sequence[float], **fields: Any) -> Study:
    """A study at its final stage, nothing of which has run."""
    study = searched(database, scores, **fields)
    assert begin_final(database, study)
    return studies.find(database, study.name)


def play(
    database: Database,
    study: Study,
    outcome: Callable[[int, int], Sequence[float] | None],
    early: Callable[[int], float] = lambda rank: 0.0,
) -> None:
    """Finish every final trial: `outcome(rank, agents)` is its scores, None a failure."""
    trials = database.optuna_study(study.final_name).get_trials()
    for claim in take_all(database):
        attributes = trials[claim.number].user_attrs
        rank = attributes["finalist"]
        scores = outcome(rank, len(attributes["seeds"]))
        if scores is None:
            finish(database, claim, state="FAIL", attributes={"reason": "it burned"})
        else:
            train_by_hand(database, study, claim, scores=scores, early=early(rank))


def test_the_best_configurations_are_enqueued_with_their_parameters_and_fresh_seeds(
    database: Database,
) -> None:
    study = begun(database, [3.0, 9.0, 5.0, 7.0], seeds=2, top=2, final_seeds=5)
    search = database.optuna_study(study.name).get_trials()
    final = database.optuna_study(study.final_name).get_trials()
    assert study.stage == "final"
    assert [trial.state.name for trial in final] == ["WAITING"] * 6
    for rank, number in enumerate([1, 3]):
        own = [trial for trial in final if trial.user_attrs["finalist"] == rank]
        assert {trial.user_attrs["source"] for trial in own} == {number}
        assert all(trial.params == search[number].params for trial in own)
        assert all(trial.distributions == search[number].distributions for trial in own)
        groups = [trial.user_attrs["seeds"] for trial in own]
        # As many trials as it takes with two agents each, none much smaller than the others.
        assert sorted(map(len, groups)) == [1, 2, 2]
        assert [*chain(*groups)] == fresh_seeds(study.spec.seed, rank, 5)
    used = {seed for trial in search for seed in trial.user_attrs["seeds"]}
    assert not used & {seed for trial in final for seed in trial.user_attrs["seeds"]}


def test_beginning_again_enqueues_nothing_more(database: Database) -> None:
    study = begun(database, [1.0, 2.0])
    before = states(database, study.final_id or 0)
    for given in (study, create(database, trials=2, train_steps=32)):
        begin_final(database, given)
    assert states(database, study.final_id or 0) == before


def test_many_coordinators_at_once_begin_one_final_stage(open_database: Open) -> None:
    databases = [open_database() for _ in range(5)]
    study = searched(databases[0], [1.0, 2.0], top=2, final_seeds=4)
    found = at_once(
        *[lambda database=database: begin_final(database, study) for database in databases]
    )
    assert {tuple(finalist.number for finalist in each) for each in found} == {(1, 0)}
    now = studies.find(databases[0], study.name)
    assert states(databases[0], now.final_id or 0) == [(n, "WAITING") for n in range(4)]


def test_a_search_without_a_complete_trial_has_no_final_stage(database: Database) -> None:
    study = create(database, trials=2, top=1)
    for claim in take_all(database):
        finish(database, claim, state="PRUNED")
    assert begin_final(database, study) == []
    assert studies.find(database, study.name).stage == "search"


def test_final_trials_are_claimed_by_the_same_workers_and_no_new_ones_started(
    database: Database,
) -> None:
    study = begun(database, [1.0, 2.0], top=2, final_seeds=3, seeds=2)
    claims = take_all(database)
    assert [(claim.stage, claim.number) for claim in claims] == [("final", n) for n in range(4)]
    finish(database, claims[0], state="FAIL")
    # A failed final trial is not replaced: its finalist is out.
    assert take_all(database) == []
    assert states(database, study.search_id) == [(0, "COMPLETE"), (1, "COMPLETE")]


def test_the_winner_is_the_best_mean_on_fresh_seeds_not_the_best_of_the_search(
    database: Database,
) -> None:
    study = begun(database, [9.0, 5.0, 7.0], top=3, final_seeds=4, seeds=2)
    means = {0: 2.0, 1: 8.0, 2: 4.0}  # trials 0, 2, 1
    play(database, study, lambda rank, agents: [means[rank]] * agents)
    result = conclude(database, study)
    assert result is not None
    assert result["winner"] == 1
    rows = result["finalists"]
    assert [(row["rank"], row["trial"]) for row in rows] == [(0, 0), (1, 2), (2, 1)]
    assert [row["search_score"] for row in rows] == [9.0, 7.0, 5.0]
    assert [row["mean"] for row in rows] == [2.0, 8.0, 4.0]
    assert [row["gap"] for row in rows] == [7.0, -1.0, 1.0]
    for row in rows:
        assert row["seeds"] == fresh_seeds(study.spec.seed, row["rank"], 4)
        # Equal scores of four seeds are no point: CartPole returns up to 500.
        low, high = row["interval"]
        assert 0 <= low < row["mean"] < high < 500
        assert (row["interval_method"], row["interval_together"]) == ("bounded", 3)
    assert set(rows[0]["params"]) == set(study.spec.agent)
    assert rows[0]["params"]["net_arch"] == (8,)
    assert result["model"]["search_trial"] == 2
    assert result["model"]["params"] == rows[1]["params"]


def test_of_two_equal_means_the_faster_learner_wins(database: Database) -> None:
    study = begun(database, [9.0, 8.0], top=2)
    play(database, study, lambda rank, agents: [5.0] * agents, early=lambda rank: float(rank))
    result = conclude(database, study)
    assert result is not None
    assert result["winner"] == 1


def test_of_two_equal_finalists_the_searchs_better_one_wins(database: Database) -> None:
    study = begun(database, [8.0, 9.0], top=2)
    play(database, study, lambda rank, agents: [5.0] * agents)
    result = conclude(database, study)
    assert result is not None
    assert result["model"]["search_trial"] == 1


def test_a_finalist_with_a_failed_trial_cannot_win(database: Database) -> None:
    study = begun(database, [9.0, 8.0], top=2, seeds=2, final_seeds=4)
    failed = False

    def outcome(rank: int, agents: int) -> list[float] | None:
        nonlocal failed
        if rank == 0 and not failed:
            failed = True
            return None
        return [100.0 if rank == 0 else 1.0] * agents

    play(database, study, outcome)
    result = conclude(database, study)
    assert result is not None
    assert result["winner"] == 1
    loser = result["finalists"][0]
    assert loser["failures"] == ["it burned"]
    assert "mean" not in loser
    assert result["finalists"][1]["failures"] == []


def test_without_a_finalist_left_there_is_no_result(database: Database) -> None:
    study = begun(database, [9.0, 8.0], top=2)
    play(database, study, lambda rank, agents: None)
    assert conclude(database, study) is None


def test_the_saved_agent_is_the_best_one_of_the_winner(database: Database) -> None:
    study = begun(database, [9.0], top=1, seeds=2, final_seeds=4)
    scores = iter([[1.0, 2.0], [3.0, 8.0]])
    play(database, study, lambda rank, agents: next(scores))
    result = conclude(database, study)
    assert result is not None
    model = result["model"]
    assert (model["final_trial"], model["score"]) == (1, 8.0)
    assert model["seed"] == fresh_seeds(study.spec.seed, 0, 4)[3]
    assert model["configuration_scores"] == [1.0, 2.0, 3.0, 8.0]
    assert model["configuration_mean"] == 3.5
    stored = Stored(**{key: model[key] for key in ("artifact", "sha256", "size")})
    arrays = load(blobs.get(open_store(study.artifacts, database), stored))
    whole = model_arrays(1, 2)
    assert arrays.keys() == whole.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, whole[name][1])


def test_of_two_equal_agents_the_lower_seed_is_saved(database: Database) -> None:
    study = begun(database, [9.0], top=1, seeds=2, final_seeds=4)
    play(database, study, lambda rank, agents: [5.0] * agents)
    result = conclude(database, study)
    assert result is not None
    assert result["model"]["seed"] == min(fresh_seeds(study.spec.seed, 0, 4))


def damage(database: Database, study: Study, number: int, *, how: str) -> None:
    """Spoil the stored model of a trial of the final stage."""
    trial = database.optuna_study(study.final_name).get_trials()[number]
    artifact = trial.user_attrs["model"]["artifact"]
    store = open_store(study.artifacts, database)
    if how == "missing":
        store.remove(artifact)
    else:
        blobs.put(store, artifact, b"other")


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_final_trial_whose_model_is_lost_is_trained_again_once(
    open_database: Open, how: str
) -> None:
    databases = [open_database() for _ in range(3)]
    database = databases[0]
    study = begun(database, [9.0], top=1, seeds=2, final_seeds=4)
    scores = {0: [5.0, 6.0], 1: [5.0, 8.0]}
    for claim in take_all(database):
        train_by_hand(database, study, claim, scores=scores[claim.number])
    damage(database, study, 1, how=how)
    # However many coordinators look, and however often.
    at_once(*[lambda each=each: step(each, study.name) for each in databases])
    assert step(database, study.name).stage == "final"
    assert study.final_id is not None
    final = database.optuna_study(study.final_name).get_trials()
    assert [trial.state.name for trial in final] == ["COMPLETE", "COMPLETE", "WAITING"]
    assert final[2].params == final[1].params
    for key in ("seeds", "finalist", "source"):
        assert final[2].user_attrs[key] == final[1].user_attrs[key]

    train_by_hand(database, study, take(database), scores=scores[1])
    ended = step(database, study.name)
    assert ended.stage == "done"
    assert ended.result is not None
    (row,) = ended.result["finalists"]
    # Each seed counts once.
    assert row["scores"] == [5.0, 6.0, 5.0, 8.0]
    assert row["seeds"] == fresh_seeds(study.spec.seed, 0, 4)
    assert ended.result["model"]["final_trial"] == 2
    check_invariants(database, study.name)


def test_a_model_that_is_lost_again_ends_the_study_with_the_reason(database: Database) -> None:
    study = begun(database, [9.0], top=1, seeds=2, final_seeds=2)
    train_by_hand(database, study, take(database), scores=[5.0, 6.0])
    damage(database, study, 0, how="missing")
    assert step(database, study.name).stage == "final"
    train_by_hand(database, study, take(database), scores=[5.0, 6.0])
    damage(database, study, 1, how="damaged")
    ended = step(database, study.name)
    assert ended.stage == "failed"
    assert "the model of final trial 1 is lost" in (ended.reason or "")
    assert "SHA-256" in (ended.reason or "")
