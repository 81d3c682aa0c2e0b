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
from trialfleet.errors import StudyFileError
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


BOUND = '[[constraints]]\nmeasure = "parameters"\nat_most = 5_000'


def measured(database: Database, value: float, *, excess: float, state: Any = "COMPLETE") -> None:
    """End a trial that exceeds its one constraint by so much of the bound."""
    finish(
        database,
        take(database),
        value=value,
        state=state,
        system_attributes={"constraints": [excess]},
    )


def test_only_a_feasible_trial_reaches_the_target(database: Database) -> None:
    study = stopping(database, "target = 400.0", more=BOUND)
    measured(database, 450.0, excess=0.1)
    measured(database, 420.0, excess=0.0, state="PRUNED")
    assert step(database, study.name).stopped is None
    measured(database, 410.0, excess=0.0)
    assert step(database, study.name).stopped == "trial 2 reached 410, the target is 400"


def test_only_a_feasible_trial_is_an_improvement(database: Database) -> None:
    study = stopping(database, "no_improvement = 2", more=BOUND)
    for _ in range(3):  # nothing to count from
        measured(database, 100.0, excess=0.1)
    assert step(database, study.name).stopped is None
    measured(database, 5.0, excess=-0.2)
    measured(database, 900.0, excess=0.1)
    assert step(database, study.name).stopped is None
    measured(database, 1.0, excess=0.0)
    assert step(database, study.name).stopped == "no improvement in 2 trials since trial 3"


def test_less_is_better_where_the_objective_says_so(database: Database) -> None:
    rules = "target = 20.0\nno_improvement = 2"
    study = stopping(database, rules, objectives='["steps_to_10"]')
    for value in (30.0, 40.0):
        finish(database, take(database), value=value)
    assert step(database, study.name).stopped is None
    finish(database, take(database), value=19.0)
    assert step(database, study.name).stopped == "trial 2 reached 19, the target is 20"


@pytest.mark.parametrize("rule", ["target = 1.0", "no_improvement = 2"])
def test_of_several_objectives_there_is_no_best(rule: str) -> None:
    text = trivial_study(objectives='["score", "parameters"]') + f"[stop]\n{rule}\n"
    with pytest.raises(
        StudyFileError, match=f"stop.{rule.split()[0]}: .* there is no single best trial; must"
    ):
        parse(text, source="trivial.toml")
    parse(text.replace(rule, "steps = 9\nseconds = 9"), source="trivial.toml")


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
