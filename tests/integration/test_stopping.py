"""Rules that stop a search, judged by the database alone."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from coordinator.create import create_or_join
from coordinator.watch import step
from tests.support.studies import (
    finish,
    send,
    states,
    take,
    take_all,
    train_by_hand,
    trivial_study,
)
from trialfleet.store.steering import course
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.study.file import parse


def stopping(database: Database, rules: str, **fields: Any) -> Study:
    text = trivial_study(**{"trials": 9, "seeds": 1, **fields}) + f"\n[stop]\n{rules}\n"
    return create_or_join(database, parse(text, source="trivial.toml"))


def complete(database: Database, study: Study, *scores: float) -> Study:
    """Complete a trial for each score; the study after the coordinator's look."""
    for score in scores:
        train_by_hand(database, study, take(database), scores=[score])
    return step(database, study.name)


def test_a_target_is_reached_by_a_complete_trial_only(database: Database) -> None:
    study = stopping(database, "target = 400.0")
    study = complete(database, study, 399.0)
    claim = take(database)
    send(database, claim, 16, [450.0])
    assert step(database, study.name).stopped is None
    finish(database, claim, state="PRUNED", value=450.0)
    assert step(database, study.name).stopped is None
    under_way = take(database)
    study = complete(database, study, 400.0)
    assert study.stopped == "trial 3 reached 400, the target is 400"
    # The trial under way is waited for.
    assert study.stage == "search"
    train_by_hand(database, study, under_way, scores=[1.0])
    study = step(database, study.name)
    assert (study.stage, study.budget) == ("final", 4)


def test_no_improvement_is_counted_from_the_end_of_the_best(database: Database) -> None:
    study = stopping(database, "no_improvement = 3")
    early = take(database)
    study = complete(database, study, 2.0, 5.0, 4.0)
    # It began before the best, and ended after it; an equal score is no improvement.
    train_by_hand(database, study, early, scores=[5.0])
    finish(database, take(database), state="FAIL")
    assert step(database, study.name).stopped is None
    finish(database, take(database), state="PRUNED", value=1.0)
    study = step(database, study.name)
    assert study.stopped == "no improvement in 3 trials since trial 2"


def test_time_counts_from_the_first_claim_without_pauses(database: Database) -> None:
    study = stopping(database, "seconds = 100")
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.studies SET created_at = now() - interval '1 day'"))
    claim = take(database)

    def claimed_ago(seconds: int) -> None:
        with database.transaction() as connection:
            connection.execute(
                text("UPDATE fleet.attempts SET claimed_at = now() - make_interval(secs => :s)"),
                {"s": seconds},
            )

    claimed_ago(99)
    assert step(database, study.name).stopped is None
    claimed_ago(150)
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.studies SET paused_seconds = 60"))
    assert step(database, study.name).stopped is None
    claimed_ago(170)
    course.pause(database, study)
    assert step(database, study.name).stopped is None
    course.resume(database, study)
    study = step(database, study.name)
    assert study.stopped == "it has taken 110 s, stop.seconds is 100"
    train_by_hand(database, study, claim, scores=[1.0])


def test_steps_are_those_of_trials_that_count_and_of_those_under_way(database: Database) -> None:
    study = stopping(database, "steps = 100", seeds=2)
    finish(database, take(database), attributes={"steps": 40})
    finish(database, take(database), state="PRUNED", attributes={"steps": 27})
    finish(database, take(database), state="FAIL", attributes={"steps": 1000, "reason": "x"})
    claim = take(database)
    send(database, claim, 16, [1.0, 1.0])
    assert step(database, study.name).stopped is None
    send(database, claim, 17, [1.0, 1.0])
    study = step(database, study.name)
    assert study.stopped == "it has taken 101 environment steps, stop.steps is 100"


def test_who_extends_a_study_that_a_rule_stopped_lifts_its_rules(database: Database) -> None:
    study = stopping(database, "target = 1.0", trials=4, top=1, final_seeds=1)
    study = complete(database, study, 2.0)
    assert study.stopped is not None
    study = course.extend(database, study, 3)
    study = complete(database, study, 3.0)
    assert (study.stopped, study.stage) == (None, "search")
    study = complete(database, study, 4.0)
    assert (study.stage, study.budget) == ("final", 3)


@pytest.mark.parametrize("rules", ["", "target = 99.0\nno_improvement = 4"])
def test_a_search_that_no_rule_ends_spends_its_budget(database: Database, rules: str) -> None:
    study = stopping(database, rules, trials=4)
    study = complete(database, study, 1.0, 2.0, 3.0, 4.0)
    assert (study.stage, study.stopped) == ("final", None)
    assert len(states(database, study.search_id)) == 4
    assert len(take_all(database)) > 0
