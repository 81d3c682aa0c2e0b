"""A study is created once, by whoever comes first, and joined by those who bring the same file."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from coordinator.create import create_or_join
from migrations.migrate import downgrade, upgrade
from tests.support.studies import at_once, create, states, take, trivial_spec
from trialfleet import COMPATIBILITY, __version__
from trialfleet.errors import (
    StudyMismatchError,
    StudyNotFoundError,
    UsageError,
    VersionMismatchError,
)
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.study import formats

Open = Callable[[], Database]


def test_a_study_is_stored_as_its_file_describes_it(database: Database) -> None:
    spec = trivial_spec(trials=7, max_failures=5, max_attempts=2)
    study = create_or_join(database, spec)
    assert replace(studies.find(database, "trivial"), seconds=study.seconds) == study
    assert (study.spec, study.digest) == (spec, spec.digest)
    assert (study.stage, study.budget, study.max_failures) == ("search", 7, 5)
    assert (study.version, study.compatibility) == (__version__, COMPATIBILITY)
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


@pytest.mark.parametrize("name", ["trivial", "trivial.final"])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_an_empty_study_of_stock_optuna_is_not_taken_over(
    database: Database, name: str, direction: Literal["minimize", "maximize"]
) -> None:
    # It may search the other way round, and is not ours to fill.
    optuna.create_study(study_name=name, storage=database.optuna_storage(), direction=direction)
    with pytest.raises(StudyMismatchError, match=f"'{name}' exists that Trialfleet did not create"):
        create(database)
    assert studies.find_all(database) == []


def test_a_coordinator_that_died_while_creating_has_left_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.create.INSERT", text("SELECT 1 / 0"))
    with pytest.raises(DBAPIError):
        create(database)
    monkeypatch.undo()
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM public.studies")) == 0
    assert take(database, create(database).name).number == 0


def test_many_coordinators_at_once_create_one_study(open_database: Open) -> None:
    databases = [open_database() for _ in range(6)]
    found = at_once(*[lambda database=database: create(database) for database in databases])
    assert len({study.search_id for study in found}) == 1
    with databases[0].transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM public.studies")) == 1


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
        studies.find_single(database)
    create(database, name="one")
    assert studies.find_single(database).name == "one"
    create(database, name="two")
    with pytest.raises(UsageError, match=r"\(one, two\)"):
        studies.find_single(database)
    # Only one is left to work on.
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.studies SET stage = 'done' WHERE name = 'one'"))
    assert studies.find_single(database).name == "two"


def test_an_unknown_study_is_named(database: Database) -> None:
    with pytest.raises(StudyNotFoundError, match="no study is called 'cartpole'"):
        studies.find(database, "cartpole")


def test_a_study_of_0_1_0_is_joined_by_its_own_file(database: Database) -> None:
    # Its stored form has no number, no algorithm and no time limits, so its digest is another.
    limits: dict[str, Any] = {"stall_seconds": 1_800}  # the default: its file names no limit
    study = create(database, **limits)
    old = json.loads(study.stored)
    del old["format"]
    for name in ("algorithm", "max_seconds", "stall_seconds"):
        del old["task"][name]
    store(database, json.dumps(old, sort_keys=True, separators=(",", ":")))
    joined = create(database, **limits)
    assert joined.digest != trivial_spec(**limits).digest
    assert joined.spec == trivial_spec(**limits)
    with pytest.raises(StudyMismatchError, match=r"different study file: seed: 3 there, 4 here$"):
        create(database, seed=4, **limits)


def test_a_patch_release_goes_on_with_a_running_study(database: Database) -> None:
    create(database)
    change(database, version="0.2.99")
    assert create(database).version == "0.2.99"


def test_a_coordinator_of_another_compatibility_is_refused(database: Database) -> None:
    create(database)
    change(database, version="0.1.0", compatibility=1)
    with pytest.raises(VersionMismatchError) as refused:
        create(database)
    assert str(refused.value) == (
        "study 'trivial' was created by trialfleet 0.1.0 (compatibility 1), "
        f"this is {__version__} (compatibility {COMPATIBILITY})"
    )
    # Ended, there is nothing left that it could do wrong.
    change(database, stage="done")
    assert create(database).stage == "done"


def test_a_study_that_cannot_be_read_leaves_the_others_alone(database: Database) -> None:
    create(database, name="broken")
    create(database, name="whole")
    store(database, '{"name":"broken","later":1}', name="broken")
    assert [study.name for study in studies.find_all(database)] == ["broken", "whole"]
    assert studies.find_single(database).name == "whole"
    broken = studies.find(database, "broken")
    assert broken.unreadable is not None
    with pytest.raises(VersionMismatchError, match=r"broken.*later: unknown key"):
        assert broken.spec
    with pytest.raises(VersionMismatchError, match="later: unknown key"):
        create(database, name="broken")
    # With no other left, the error says what is wrong with it.
    change(database, name="whole", stage="done")
    assert studies.find_single(database).name == "broken"


def test_a_study_stored_before_there_were_numbers_has_number_1(database_url: URL) -> None:
    with closing(Database(database_url, application="tests")) as database:
        create(database)
        with create_engine(database_url, poolclass=NullPool).begin() as connection:
            downgrade(connection, "0001")
            upgrade(connection)
        assert studies.find(database, "trivial").compatibility == 1


def change(database: Database, *, name: str = "trivial", **values: object) -> None:
    """Set columns of the study's row."""
    columns = ", ".join(f"{column} = :{column}" for column in values)
    with database.transaction() as connection:
        connection.execute(
            text(f"UPDATE fleet.studies SET {columns} WHERE name = :study"),
            {**values, "study": name},
        )


def store(database: Database, stored: str, *, name: str = "trivial") -> None:
    """Store this text as the study file, as the version that created the study would have."""
    change(database, name=name, spec=stored, digest=formats.digest(stored))
