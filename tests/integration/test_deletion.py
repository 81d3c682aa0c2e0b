"""A deleted study takes everything of it along; less than a study cannot be deleted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import optuna
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from coordinator.final import begin_final
from coordinator.watch import step
from tests.support.studies import (
    at_once,
    create,
    extend,
    finish,
    states,
    take,
    take_all,
    train_by_hand,
)
from trialfleet.errors import StudyDeletedError, StudyMismatchError
from trialfleet.store import leases, studies
from trialfleet.store.steering import course
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

Open = Callable[[], Database]

# Every table that may hold something of a study.
TABLES = (
    *("fleet.studies", "fleet.attempts", "fleet.metrics", "fleet.checkpoints", "fleet.leaders"),
    *("fleet.workers", "public.studies", "public.study_directions", "public.trials"),
    *("public.study_user_attributes", "public.study_system_attributes", "public.trial_params"),
    *("public.trial_values", "public.trial_intermediate_values"),
    *("public.trial_user_attributes", "public.trial_system_attributes"),
)


def rows(database: Database) -> dict[str, int]:
    with database.transaction() as connection:
        counts = {
            table: connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0 for table in TABLES
        }
    return {table: count for table, count in counts.items() if count}


def delete(database: Database, name: str = "trivial") -> None:
    optuna.delete_study(study_name=name, storage=database.optuna_storage())


def at_final(database: Database) -> Study:
    """A study at its final stage, one of whose trials is complete and one under way."""
    study = create(database, trials=2, top=2, final_seeds=2)
    for claim in take_all(database):
        train_by_hand(database, study, claim, scores=[1.0, 2.0])
    study = step(database, study.name)
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    take(database)
    return study


def test_deleting_a_study_leaves_nothing_of_it_and_all_of_its_neighbour(database: Database) -> None:
    neighbour = create(database, name="neighbour")
    train_by_hand(database, neighbour, take(database, "neighbour"), scores=[1.0, 2.0])
    before = rows(database)
    at_final(database)
    delete(database)
    assert rows(database) == before


def test_deleting_it_in_sql_does_too(database: Database) -> None:
    at_final(database)
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM public.studies WHERE study_name = 'trivial'"))
    assert rows(database) == {}


def test_the_next_study_of_the_name_begins_with_nothing(database: Database) -> None:
    at_final(database)
    delete(database)
    study = at_final(database)
    assert states(database, study.search_id) == [(0, "COMPLETE"), (1, "COMPLETE")]
    assert study.final_id is not None
    assert states(database, study.final_id) == [(0, "COMPLETE"), (1, "RUNNING")]


def test_a_final_stage_deleted_alone_is_begun_again(database: Database) -> None:
    at_final(database)
    delete(database, "trivial.final")
    study = studies.find(database, "trivial")
    assert (study.stage, study.final_id) == ("search", None)
    study = step(database, "trivial")
    assert (study.stage, study.final_id is not None) == ("final", True)
    assert [claim.number for claim in take_all(database)] == [0, 1]


def test_a_final_study_that_is_not_ours_is_refused(database: Database) -> None:
    study = create(database, trials=2)
    for claim in take_all(database):
        train_by_hand(database, study, claim, scores=[1.0, 2.0])
    theirs = optuna.create_study(study_name="trivial.final", storage=database.optuna_storage())
    with pytest.raises(StudyMismatchError, match=r"'trivial\.final' exists"):
        begin_final(database, study)
    assert theirs.get_trials() == []
    assert studies.find(database, "trivial").stage == "search"


CALLS: dict[str, Callable[[Database, leases.Claim], Any]] = {
    "claim": lambda database, _claim: take_all(database),
    "extend": extend,
    "finish": finish,
    "release": leases.release,
    "reap": lambda database, _claim: leases.reap(database, "trivial"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_lease_of_a_deleted_study_says_so(database: Database, name: str) -> None:
    create(database)
    claim = take(database)
    delete(database)
    with pytest.raises(StudyDeletedError, match="was deleted") as told:
        CALLS[name](database, claim)
    assert told.value.exit_code == 2


def test_a_study_is_deleted_while_workers_claim_and_finish(open_database: Open) -> None:
    # Optuna makes a list of what to delete; a trial that begins meanwhile must not save the study.
    ours, others = open_database(), [open_database() for _ in range(3)]
    create(ours, trials=10_000)

    def work(database: Database) -> str:
        try:
            while True:
                claim = leases.claim(
                    database, "trivial", worker="hand", claim_id=uuid4(), lease_seconds=30.0
                )
                assert claim is not None
                finish(database, claim, attributes={"scores": [1.0]})
        except StudyDeletedError:
            return "deleted"

    def delete_once_there_is_something() -> str:
        while len(ours.optuna_study("trivial").get_trials(deepcopy=False)) < 20:
            pass
        delete(ours)
        return "done"

    calls = [partial(work, database) for database in others]
    assert at_once(*calls, delete_once_there_is_something) == ["deleted"] * 3 + ["done"]
    assert rows(ours) == {}


def test_a_trial_is_not_deleted_without_its_study(database: Database) -> None:
    study = create(database)
    finish(database, take(database))

    def delete_trial() -> None:
        with database.transaction() as connection:
            connection.execute(text("DELETE FROM public.trials"))

    with pytest.raises(DBAPIError, match="goes only with its study"):
        delete_trial()
    assert states(database, study.search_id) == [(0, "COMPLETE")]


def test_a_deletion_that_was_taken_back_does_not_hide_the_next(database: Database) -> None:
    # Deletions are looked at once for each study; a savepoint forgets what was said after it.
    create(database)
    claims = [take(database), take(database)]
    for claim in claims:
        finish(database, claim, attributes={"key": 1})
    gone = text("DELETE FROM public.trial_user_attributes WHERE trial_id = :trial_id")
    before = rows(database)

    def delete_rows() -> None:
        with database.transaction() as connection:
            with connection.begin_nested() as savepoint:
                connection.execute(gone, {"trial_id": claims[0].trial_id})
                savepoint.rollback()
            connection.execute(gone, {"trial_id": claims[1].trial_id})

    with pytest.raises(DBAPIError, match="rows of trial 2 go only with its study"):
        delete_rows()
    assert rows(database) == before


def test_a_trial_of_a_former_final_stage_is_not_deleted_alone(database: Database) -> None:
    study = at_final(database)
    course.extend(database, study, 4)
    with database.transaction() as connection:
        former = connection.scalar(text("SELECT final_id FROM fleet.former_finals"))

    def delete_trials() -> None:
        with database.transaction() as connection:
            connection.execute(
                text("DELETE FROM public.trials WHERE study_id = :former"), {"former": former}
            )

    with pytest.raises(DBAPIError, match="goes only with its study"):
        delete_trials()
    delete(database)
    assert rows(database) == {}


def test_stock_studies_beside_ours_are_optunas_own_affair(database: Database) -> None:
    # Copying finished trials writes to them once more: what the dashboard's "rename" does.
    create(database)
    storage = database.optuna_storage()
    theirs = optuna.create_study(study_name="theirs", storage=storage)
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    optuna.copy_study(
        from_study_name="theirs", from_storage=storage, to_storage=storage, to_study_name="copy"
    )
    optuna.delete_study(study_name="theirs", storage=storage)
    assert len(optuna.load_study(study_name="copy", storage=storage).get_trials()) == 2
