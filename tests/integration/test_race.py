"""The race: who is in it, block by block, who leaves and why, and how the winner is confirmed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import pytest
from optuna.trial import FrozenTrial
from sqlalchemy import text

from coordinator.race import course
from coordinator.race.replaying import replay_decisions
from coordinator.retrain import ENQUEUED
from coordinator.status import snapshot
from coordinator.watch import step
from tests.support.invariants import check_invariants
from tests.support.studies import at_once, create, finish, take, take_all, train_by_hand
from trialfleet.artifacts.stores import open_store
from trialfleet.seeds import confirmation_seeds, race_seeds
from trialfleet.store import studies
from trialfleet.store.steering import course as steering
from trialfleet.store.steering import decisions
from trialfleet.store.steering.decisions import Decided
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

Open = Callable[[], Database]
# Of a finalist: its scores in the race's seeds, and in the confirming ones.
Scores = Callable[[int, Sequence[int], bool], Sequence[float] | None]


def begun(database: Database, scores: Sequence[float], **fields: Any) -> Study:
    """A study whose race has begun; trial i of its search scored `scores[i]`."""
    given = {"race": True, "top": len(scores), "final_seeds": 8, "confirm": 4, "train_steps": 32}
    study = create(database, trials=len(scores), **{**given, **fields})
    for claim, score in zip(take_all(database), scores, strict=True):
        train_by_hand(database, study, claim, scores=[score] * study.spec.task.seeds)
    return step(database, study.name)


def final_trials(database: Database, study: Study) -> list[FrozenTrial]:
    return database.optuna_study(study.final_name).get_trials()


def decided(database: Database, study: Study) -> list[Decided]:
    now = studies.find(database, study.name)
    assert now.final_id is not None
    with database.transaction() as connection:
        return decisions.read(connection, now.final_id)


def verdicts(database: Database, study: Study, block: int) -> dict[int, str]:
    return {each.finalist: each.verdict for each in decided(database, study) if each.block == block}


def train(
    database: Database, study: Study, scores: Scores, *, early: Mapping[int, float] | None = None
) -> None:
    """Do all that there is to do."""
    trials = final_trials(database, study)
    for claim in take_all(database):
        own = trials[claim.number].user_attrs
        found = scores(own["finalist"], own["seeds"], "confirms" in own)
        if found is None:
            finish(database, claim, state="FAIL", attributes={"reason": "it burned"})
        else:
            height = (early or {}).get(own["finalist"], 0.0)
            train_by_hand(database, study, claim, scores=found, early=height)


def raced(
    database: Database, study: Study, scores: Scores, *, early: Mapping[int, float] | None = None
) -> Study:
    """The study at its end."""
    for _ in range(40):
        if (now := step(database, study.name)).ended:
            check_invariants(database, study.name)
            return now
        train(database, study, scores, early=early)
    raise AssertionError("it never ends")


def steady(means: dict[int, float]) -> Scores:
    """Scores that differ a little from seed to seed."""
    return lambda rank, seeds, confirms: [means[rank] + seed % 97 / 97 for seed in seeds]


def late(study: Study) -> Scores:
    """Finalist 1 is the best, which four seeds do not show, and eight do."""
    first = {seed for rank in range(3) for seed in race_seeds(study.spec.seed, rank, 4)}

    def scores(rank: int, seeds: Sequence[int], confirms: bool) -> list[float]:
        even, apart = [40.0, 60.0, 50.0, 70.0], 120.0 if rank == 1 else 20.0
        return [even[i] if seed in first else apart + i for i, seed in enumerate(seeds)]

    return scores


def test_only_the_first_block_is_enqueued_at_first(database: Database) -> None:
    study = begun(database, [1.0, 3.0, 2.0], seeds=2)
    trials = final_trials(database, study)
    assert [trial.user_attrs["seeds"] for trial in trials] == [
        race_seeds(study.spec.seed, rank, 8)[:2] for rank in range(3)
    ]
    rows = decided(database, study)
    assert [(row.finalist, row.trial, row.verdict) for row in rows] == [
        (0, 1, "enters"),
        (1, 2, "enters"),
        (2, 0, "enters"),
    ]
    # Ranked by means that are shrunken towards the study's.
    assert [row.mean for row in rows] == [3.0, 2.0, 1.0]


def test_those_who_cannot_win_leave_and_their_further_seeds_are_never_made(
    database: Database,
) -> None:
    study = begun(database, [9.0, 5.0, 7.0], seeds=4, final_seeds=16)
    ended = raced(database, study, late(study))
    result = ended.result
    assert result is not None
    assert result["winner"] == 1
    assert verdicts(database, study, 1) == {0: "stays", 1: "stays", 2: "stays"}
    assert verdicts(database, study, 2) == {0: "out", 1: "wins", 2: "out"}
    rows = {row.finalist: row for row in decided(database, study) if row.block == 2}
    assert rows[0].seeds == 8
    p, level = rows[0].p, rows[0].level
    assert p is not None
    assert level == 0.1
    assert p <= level
    assert rows[0].why == f"the best with a probability of {p:.1%} only"
    # 8 seeds of each, not 16.
    raced_seeds = [t.user_attrs["seeds"] for t in final_trials(database, study)][:6]
    assert len([*chain(*raced_seeds)]) == 24
    assert (result["race"]["seeds"], result["race"]["most_seeds"]) == (24, 48)
    assert len(final_trials(database, study)) == 7


def test_the_answer_is_what_the_winner_comes_to_on_seeds_of_its_own(database: Database) -> None:
    study = begun(database, [9.0, 5.0], seeds=2, confirm=5)

    def scores(rank: int, seeds: Sequence[int], confirms: bool) -> list[float]:
        return [30.0 if confirms else 80.0 - rank] * len(seeds)

    ended = raced(database, study, scores)
    result = ended.result
    assert result is not None
    (winner,) = (row for row in result["finalists"] if row["rank"] == result["winner"])
    found = result["confirmation"]
    assert (winner["mean"], found["mean"], found["iqm"]) == (80.0, 30.0, 30.0)
    assert found["gap"] == 9.0 - 30.0
    assert found["seeds"] == confirmation_seeds(study.spec.seed, 0, 5)
    assert result["model"]["seed"] in found["seeds"]
    assert result["model"]["configuration_mean"] == 30.0
    searched = {
        seed
        for trial in database.optuna_study(study.name).get_trials()
        for seed in trial.user_attrs["seeds"]
    }
    assert not {*found["seeds"]} & ({*winner["seeds"]} | searched)


def test_how_many_seeds_solve_the_task_is_counted_by_the_study_files_word(
    database: Database,
) -> None:
    study = begun(database, [9.0], confirm=10, more="solved = 40")
    ended = raced(
        database,
        study,
        lambda rank, seeds, confirms: [41.0] * len(seeds),
    )
    assert ended.result is not None
    solved = ended.result["confirmation"]["solved"]
    assert (solved["seeds"], solved["of"], solved["threshold"]) == (10, 10, 40.0)
    assert solved["at_least"] == pytest.approx(0.7411, abs=1e-4)


def test_a_capped_score_ends_the_race_and_the_faster_learner_of_equals_wins(
    database: Database,
) -> None:
    study = begun(database, [9.0, 8.0, 7.0], seeds=4, final_seeds=12, eval_every=16)
    early = {0: 1.0, 1: 5.0, 2: 9.0}

    def scores(rank: int, seeds: Sequence[int], confirms: bool) -> list[float]:
        return [500.0] * len(seeds) if rank < 2 else [500.0, *[100.0] * (len(seeds) - 1)]

    ended = raced(database, study, scores, early=early)
    assert ended.result is not None
    last = max(row.block for row in decided(database, study))
    assert last == 3, "all twelve seeds of the fastest are at the cap"
    assert verdicts(database, study, 3)[0] == "equivalent"
    assert verdicts(database, study, 3)[1] == "wins"
    assert ended.result["race"]["equivalent"] == [0]
    assert verdicts(database, study, 1) == {0: "stays", 1: "stays", 2: "out"}


def test_a_finalist_that_fails_in_a_block_leaves_with_the_reason(database: Database) -> None:
    study = begun(database, [9.0, 8.0], seeds=2)
    ended = raced(
        database,
        study,
        lambda rank, seeds, confirms: None if rank == 0 else [5.0] * len(seeds),
    )
    assert ended.result is not None
    assert ended.result["winner"] == 1
    (row,) = (row for row in decided(database, study) if row.verdict == "failed")
    assert (row.block, row.finalist, row.why) == (1, 0, "it burned")
    assert ended.result["finalists"][0]["failures"] == ["it burned"]


def test_a_winner_that_cannot_be_confirmed_makes_way_for_the_next(database: Database) -> None:
    study = begun(database, [9.0, 8.0], seeds=2, final_seeds=2, confirm=4)

    def scores(rank: int, seeds: Sequence[int], confirms: bool) -> list[float] | None:
        return None if rank == 0 and confirms else [50.0 - rank - 9 * (seed % 3) for seed in seeds]

    ended = raced(database, study, scores)
    assert ended.result is not None
    assert ended.result["winner"] == 1
    assert verdicts(database, study, 1) == {0: "wins", 1: "behind"}
    assert verdicts(database, study, 2) == {0: "failed", 1: "wins"}
    assert ended.result["confirmation"]["trial"] == 1
    assert ended.result["finalists"][0]["failures"] == ["it burned"]
    assert all(pair.equal for pair in replay_decisions(database, ended))


def test_whoever_has_left_comes_back_when_nobody_else_can_be_confirmed(database: Database) -> None:
    study = begun(database, [9.0, 8.0, 7.0], seeds=2, final_seeds=4)

    def scores(rank: int, seeds: Sequence[int], confirms: bool) -> list[float] | None:
        return None if rank == 0 and confirms else [90.0 - 40 * rank + seed % 2 for seed in seeds]

    ended = raced(database, study, scores)
    assert verdicts(database, study, 1) == {0: "wins", 1: "out", 2: "out"}
    assert verdicts(database, study, 2) == {0: "failed", 1: "wins", 2: "out"}
    assert ended.result is not None
    assert ended.result["confirmation"]["trial"] == 1
    assert all(pair.equal for pair in replay_decisions(database, ended))


def test_without_a_finalist_left_the_study_fails_with_the_reason(database: Database) -> None:
    study = begun(database, [9.0, 8.0])
    ended = raced(database, study, lambda rank, seeds, confirms: None)
    assert ended.stage == "failed"
    assert "every finalist failed, the last: trial 1: it burned" in (ended.reason or "")


def test_many_coordinators_at_once_decide_once(open_database: Open) -> None:
    databases = [open_database() for _ in range(4)]
    database = databases[0]
    study = begun(database, [9.0, 5.0, 7.0], seeds=4, final_seeds=16)
    for block in (1, 2):
        train(database, study, late(study))
        now = studies.find(database, study.name)
        at_once(*[lambda each=each, now=now: course.advance(each, now) for each in databases])
        # One that has only now looked, with what it knew before.
        assert course.advance(database, now)
        assert len(verdicts(database, study, block)) == 3
    assert len(final_trials(database, study)) == 7
    raced(database, study, late(study))


def test_decisions_follow_from_the_trials_alone(database: Database) -> None:
    study = begun(database, [9.0, 5.0, 8.0, 7.0], seeds=4, final_seeds=16, top=3)
    ended = raced(database, study, late(study))
    pairs = replay_decisions(database, ended)
    assert len(pairs) == 9
    assert all(pair.equal for pair in pairs)
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.decisions SET p = p / 2 WHERE block = 2"))
    changed = [pair for pair in replay_decisions(database, ended) if not pair.equal]
    assert {pair.decided.block for pair in changed} == {2}


def test_a_decision_is_not_made_while_a_lost_model_is_trained_again(database: Database) -> None:
    study = begun(database, [9.0], seeds=2, final_seeds=2, confirm=2)
    scores = steady({0: 5.0})
    train(database, study, scores)
    study = step(database, study.name)
    train(database, study, scores)
    confirming = final_trials(database, study)[1]
    open_store(study.artifacts, database).remove(confirming.user_attrs["model"]["artifact"])
    assert step(database, study.name).stage == "final"
    assert final_trials(database, study)[2].user_attrs == {
        **{name: confirming.user_attrs[name] for name in ENQUEUED},
        "replaces": 1,
    }
    ended = raced(database, study, scores)
    assert ended.result is not None
    assert len(ended.result["confirmation"]["scores"]) == 2
    assert all(pair.equal for pair in replay_decisions(database, ended))


def test_an_extended_study_races_anew_on_other_seeds_and_keeps_the_former_decisions(
    database: Database,
) -> None:
    study = begun(database, [9.0, 8.0], seeds=2, final_seeds=2, confirm=2)
    first = raced(database, study, steady({0: 5.0, 1: 4.0}))
    former = decided(database, study)
    used = {seed for trial in final_trials(database, study) for seed in trial.user_attrs["seeds"]}
    steering.extend(database, first, 3)
    train_by_hand(database, study, take(database), scores=[10.0] * 2)
    again = step(database, study.name)
    ended = raced(database, again, steady({0: 5.0, 1: 4.0}))
    now = {seed for trial in final_trials(database, ended) for seed in trial.user_attrs["seeds"]}
    assert not now & used
    assert decided(database, ended)[0].trial == 2
    assert first.final_id is not None
    with database.transaction() as connection:
        assert decisions.read(connection, first.final_id) == former


def test_decisions_go_with_their_study(database: Database) -> None:
    study = begun(database, [9.0, 8.0])
    raced(database, study, steady({0: 5.0, 1: 4.0}))
    with database.transaction() as connection:
        connection.execute(
            text("DELETE FROM public.studies WHERE study_id = :id"), {"id": study.search_id}
        )
        assert connection.scalar(text("SELECT count(*) FROM fleet.decisions")) == 0


def test_a_study_that_is_not_judged_by_the_mean_score_has_a_fixed_stage(
    database: Database,
) -> None:
    study = begun(database, [9.0, 8.0], over_seeds="worst", seeds=2, final_seeds=4)
    assert len(final_trials(database, study)) == 4
    assert decided(database, study) == []
    assert replay_decisions(database, study) == []


def test_where_a_race_stands_is_told(database: Database) -> None:
    study = begun(database, [9.0, 5.0, 7.0], seeds=4, final_seeds=16)
    told = []
    for _ in range(3):
        shot = snapshot(database, study)
        assert shot.race is not None
        told.append(shot.race.told)
        train(database, study, late(study))
        study = step(database, study.name)
    assert told == [
        "race: block 1, at most 4 for each, 3 of 3 finalists left",
        "race: block 2, at most 4 for each, 3 of 3 finalists left",
        "trial 2 has won the race and is being confirmed",
    ]
    assert snapshot(database, study).race is None


@pytest.mark.parametrize("sentinel", [-1e6, -1e100, -1e160, -1e300])
def test_a_race_goes_its_way_where_seeds_have_diverged(database: Database, sentinel: float) -> None:
    study = create(
        database, trials=6, race=True, top=3, final_seeds=8, confirm=4, train_steps=32, seeds=4
    )
    means = [300.0, sentinel, 400.0, 350.0, 390.0, 310.0]
    for claim, mean in zip(take_all(database), means, strict=True):
        one = sentinel if claim.number == 5 else mean
        train_by_hand(database, study, claim, scores=[one, mean, mean + 10.0, mean - 5.0])

    def scores(rank: int, seeds: Sequence[int], confirms: bool) -> list[float]:
        found = [300.0 - 10 * rank + seed % 7 for seed in seeds]
        return [sentinel, *found[1:]] if rank == 1 and not confirms else found

    ended = raced(database, study, scores)
    assert [row.trial for row in decided(database, study) if row.block == 0] == [2, 4, 3]
    assert ended.result is not None
    assert ended.result["winner"] == 0
    assert all(pair.equal for pair in replay_decisions(database, ended))
    assert all(math.isfinite(row["gap"]) for row in ended.result["finalists"] if "gap" in row)
