"""Trials that stock Optuna puts into our studies: they train, or they FAIL, and the study ends."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from sqlalchemy import text

from coordinator.race.replaying import replay_decisions
from coordinator.report import data
from coordinator.watch import step
from tests.support.inprocess import run_here
from tests.support.invariants import check_invariants
from tests.support.studies import create, take_all, train_by_hand, trivial_study
from trialfleet.errors import StudyFileError
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.study.file import parse

Open = Callable[[], Database]


def stock(database: Database, name: str = "trivial") -> optuna.Study:
    """The study as anybody opens it who has the database's URL."""
    storage = optuna.storages.RDBStorage(
        database.url.render_as_string(hide_password=False), skip_table_creation=True
    )
    return optuna.load_study(study_name=name, storage=storage)


@pytest.mark.parametrize(
    ("params", "attributes", "words"),
    [
        ({"learning_rate": 5.0}, {}, "learning_rate = 5.0, which the study does not search"),
        ({"gamma": math.nan}, {}, "gamma = nan, which the study does not search"),
        ({"gamma": "high"}, {}, "gamma = 'high', which the study does not search"),
        ({"gamma": True}, {}, "gamma = true, which the study does not search"),
        ({"batch": 7}, {}, ""),  # a name that it does not search has no effect
        ({"gamma": 0.95}, {"imported": 1}, "the user attribute imported"),
        ({"gamma": 0.95}, {"audit": "yes", "scores": "many"}, "the user attribute audit"),
        ({"gamma": 0.95}, {"steps": "few", "reason": "\0", "seeds": None}, ""),
    ],
)
def test_what_optuna_enqueues_trains_or_fails_for_its_reason(
    open_database: Open, params: dict[str, Any], attributes: dict[str, Any], words: str
) -> None:
    database = open_database()
    create(database, trials=2, more="[stop]\nsteps = 1_000_000\n")
    stock(database).enqueue_trial(params, user_attrs=attributes)
    ended = run_here(open_database)
    assert ended.stage == "done"
    check_invariants(database, "trivial")
    first = database.trials(ended.search_id)[0]
    assert first.state == (TrialState.FAIL if words else TrialState.COMPLETE)
    assert words in first.user_attrs.get("reason", "")
    assert data.read(database, ended).final


def test_a_waiting_trial_with_a_value_of_its_own_range_fails(open_database: Open) -> None:
    database = open_database()
    create(database, trials=2)
    stock(database).add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params={"gamma": 7.0},
            distributions={"gamma": FloatDistribution(0.0, 10.0)},
        )
    )
    ended = run_here(open_database)
    assert "gamma = 7.0" in database.trials(ended.search_id)[0].user_attrs["reason"]
    check_invariants(database, "trivial")


@pytest.mark.parametrize("race", [False, True])
def test_a_trial_enqueued_to_the_final_stage_is_no_finalist_s(
    open_database: Open, race: bool
) -> None:
    database = open_database()
    study = create(database, trials=2, race=race, final_seeds=4, confirm=2 if race else 0)
    for claim in take_all(database):
        train_by_hand(database, study, claim, scores=[1.0 + claim.number] * 2)
    step(database, "trivial")
    final = stock(database, "trivial.final")
    with database.transaction() as connection:
        # The database refuses them; here they are as an earlier version has let them in.
        connection.execute(text("ALTER TABLE public.trials DISABLE TRIGGER fleet_admit"))
    final.enqueue_trial({"gamma": 0.95})
    final.enqueue_trial({"gamma": 0.95}, user_attrs={"finalist": "first", "replaces": "it"})
    ended = run_here(open_database)
    assert ended.result is not None
    assert ended.final_id is not None
    foreign = [trial for trial in database.trials(ended.final_id) if trial.state == TrialState.FAIL]
    assert len(foreign) == 2
    assert all("enqueued a trial to the final stage" in t.user_attrs["reason"] for t in foreign)
    assert all(pair.equal for pair in replay_decisions(database, ended))


def test_a_value_outside_of_its_range_that_has_trained_is_retrained(database: Database) -> None:
    study = create(database, trials=2, top=2)
    for claim in take_all(database):
        train_by_hand(database, study, claim, scores=[1.0 + claim.number] * 2)
    with database.transaction() as connection:
        # As a version left it that trained whatever it was given.
        connection.execute(text("ALTER TABLE public.trial_params DISABLE TRIGGER USER"))
        connection.execute(text("UPDATE public.trial_params SET param_value = 5.0"))
        connection.execute(text("ALTER TABLE public.trial_params ENABLE TRIGGER USER"))
    step(database, "trivial")
    for claim in take_all(database):
        train_by_hand(database, study, claim, scores=[1.0] * (1 + claim.number % 2))
    assert step(database, "trivial").stage == "done"


def test_a_study_file_with_what_no_database_stores_is_refused() -> None:
    file = trivial_study().replace("[agent]", '[task.env_args]\nmode = "a\\u0000b"\n[agent]')
    with pytest.raises(StudyFileError, match=r"task\.env_args\.mode: 'a\\x00b' holds a NUL"):
        parse(file, source="x.toml")


def test_a_study_stored_with_it_ends_all_the_same(database: Database) -> None:
    study = create(database, trials=2)
    stored = json.loads(study.stored)
    stored["task"]["env_args"] = {"mode": "a\0b"}
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE fleet.studies SET spec = :spec"), {"spec": json.dumps(stored)}
        )
    study = studies.find(database, "trivial")
    for _ in range(2):
        for claim in take_all(database):
            agents = 2 if claim.stage == "search" else 1 + claim.number % 2
            train_by_hand(database, study, claim, scores=[1.0] * agents)
        study = step(database, "trivial")
    assert study.stage == "done"
    assert study.result is not None
    assert study.result["model"]["task"]["env_args"] == {"mode": "a\\x00b"}
