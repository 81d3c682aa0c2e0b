"""A study is created once, by whoever comes first, and joined by those who bring the same file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import optuna
import pytest
from sqlalchemy import text

from coordinator.create import create_final, create_or_join
from tests.support.studies import at_once, create, states, take, trivial_spec
from trialfleet.errors import StudyMismatchError, StudyNotFoundError, UsageError
from trialfleet.store import studies
from trialfleet.store.storage import Database

Open = Callable[[], Database]


def test_a_study_is_stored_as_its_file_describes_it(database: Database) -> None:
    spec = trivial_spec(trials=7, max_failures=5, max_attempts=2)
    study = create_or_join(database, spec)
    assert replace(studies.find(database, "trivial"), seconds=study.seconds) == study
    assert (study.spec, study.digest) == (spec, spec.digest)
    assert (study.stage, study.budget, study.max_failures) == ("search", 7, 5)
    assert study.version == version("trialfleet")
    assert (study.result, study.reason, study.final_id, study.ended) == (None, None, None, False)
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT max_attempts FROM fleet.studies")) == 2
    directions = database.optuna_study("trivial").directions
    assert directions == [optuna.study.StudyDirection.MAXIMIZE]


def test_the_same_file_joins(database: Database) -> None:
    study = create(database)
    take(database)
    joined = create(database)
    assert (joined.search_id, joined.digest) == (study.search_id, study.digest)
    assert states(database, study.search_id) == [(0, "RUNNING")]


def test_a_changed_file_is_refused_with_its_differences(database: Database) -> None:
    create(database, seed=3, trials=4)
    with pytest.raises(StudyMismatchError) as refused:
        create(database, seed=4, trials=5)
    message = str(refused.value)
    assert "study 'trivial' exists with a different study file" in message
    assert "seed: 3 there, 4 here" in message
    assert "search.trials: 4 there, 5 here" in message
    assert "task" not in message
    assert studies.find(database, "trivial").spec.seed == 3


def test_another_name_is_another_study(database: Database) -> None:
    one, other = create(database, name="one"), create(database, name="other", seed=9)
    assert one.search_id != other.search_id
    take(database, "one")
    assert states(database, other.search_id) == []


def test_a_study_of_stock_optuna_is_not_taken_over(database: Database) -> None:
    theirs = optuna.create_study(study_name="trivial", storage=database.optuna_storage())
    theirs.enqueue_trial({"x": 0.5})
    with pytest.raises(StudyMismatchError, match="Trialfleet did not create"):
        create(database)
    with pytest.raises(StudyNotFoundError):
        studies.find(database, "trivial")
    assert len(theirs.get_trials()) == 1


def test_a_coordinator_that_died_while_creating_is_followed(database: Database) -> None:
    # It got as far as Optuna's study.
    optuna.create_study(
        study_name="trivial", storage=database.optuna_storage(), direction="maximize"
    )
    study = create(database)
    assert take(database, study.name).number == 0


def test_many_coordinators_at_once_create_one_study(open_database: Open) -> None:
    databases = [open_database() for _ in range(6)]
    found = at_once(*[lambda database=database: create(database) for database in databases])
    assert len({study.search_id for study in found}) == 1
    with databases[0].transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM public.studies")) == 1
    assert {create_final(database, found[0])._study_id for database in databases} == {
        optuna.load_study(
            study_name="trivial.final", storage=databases[0].optuna_storage()
        )._study_id
    }


def test_of_two_different_files_at_once_one_is_refused(open_database: Open) -> None:
    databases = [open_database() for _ in range(4)]

    def attempt(database: Database, seed: int) -> int | None:
        try:
            return create(database, seed=seed).spec.seed
        except StudyMismatchError:
            return None

    seeds = at_once(
        *[
            lambda database=database, seed=seed: attempt(database, seed)
            for seed, database in enumerate(databases)
        ]
    )
    created = [seed for seed in seeds if seed is not None]
    assert len(created) == 1
    assert studies.find(databases[0], "trivial").spec.seed == created[0]
    assert seeds[created[0]] == created[0]


def test_what_is_no_artifact_store_is_refused_before_anything_is_written(
    database: Database,
) -> None:
    with pytest.raises(UsageError, match="TRIALFLEET_ARTIFACTS"):
        create_or_join(database, trivial_spec(), artifacts="ftp://host")
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM public.studies")) == 0


def test_a_study_keeps_the_artifact_store_it_was_created_with(
    database: Database, tmp_path: Path
) -> None:
    url = tmp_path.as_uri()
    create_or_join(database, trivial_spec(), artifacts=url)
    assert create_or_join(database, trivial_spec(), artifacts="database").artifacts == url


def test_the_only_study_needs_no_name(database: Database) -> None:
    with pytest.raises(UsageError, match=r"not exactly one to choose from \(none\)"):
        studies.only(database)
    create(database, name="one")
    assert studies.only(database).name == "one"
    create(database, name="two")
    with pytest.raises(UsageError, match=r"\(one, two\)"):
        studies.only(database)
    # Only one is left to work on.
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.studies SET stage = 'done' WHERE name = 'one'"))
    assert studies.only(database).name == "two"


def test_an_unknown_study_is_named(database: Database) -> None:
    with pytest.raises(StudyNotFoundError, match="no study is called 'cartpole'"):
        studies.find(database, "cartpole")
