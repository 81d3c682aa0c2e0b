"""Create a study from its file, or join the one that was created from the same file before."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from optuna.study import StudyDirection
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from trialfleet import COMPATIBILITY, __version__
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import StudyMismatchError, StudyNotFoundError
from trialfleet.search import fixed
from trialfleet.store import studies
from trialfleet.store.steering import adding
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.optuna_rows import create_study, insert_trials
from trialfleet.study.measures import SCORE
from trialfleet.study.spec import FINAL_SUFFIX, Spec

log = structlog.get_logger()

INSERT = text("""
    INSERT INTO fleet.studies
        (name, search_id, spec, digest, version, compatibility, budget, max_failures,
         max_attempts, artifacts, priority)
    VALUES (:name, :search_id, :spec, :digest, :version, :compatibility, :budget, :max_failures,
            :max_attempts, :artifacts, :priority)
""")


def create_or_join(database: Database, spec: Spec, *, artifacts: str = "database") -> Study:
    """The study of `spec`, created unless it exists.

    Args:
        database: With its schema ready.
        spec: From a study file.
        artifacts: URL of the artifact store of a new study; an old one keeps its own.

    Raises:
        StudyMismatchError: A study of this name was created from a different file, or by something
            else than Trialfleet; the message shows the differing fields.
        VersionMismatchError: This version cannot go on with the study.
    """
    try:
        study = studies.find(database, spec.name)
    except StudyNotFoundError:
        study = _create(database, spec, artifacts)
    if not study.ended:
        studies.refuse_unusable(study)
    studies.refuse_other(study, spec)
    return study


def _create(database: Database, spec: Spec, artifacts: str) -> Study:
    open_store(artifacts, database)  # refuses a wrong URL before anything is written
    try:
        # Optuna's study and ours together, so that none of ours is ever without its row.
        with database.transaction() as connection:
            names = (spec.name, spec.name + FINAL_SUFFIX)
            taken = reading.names_taken(connection, names)
            if not taken:
                _insert(connection, database, spec, artifacts)
                if spec.budget < spec.search.trials:
                    log.info(
                        "fewer configurations than search.trials, each is tried once",
                        study=spec.name,
                        trials=spec.budget,
                    )
    except IntegrityError:
        taken = [spec.name]  # by another coordinator, since we looked
    try:
        return studies.find(database, spec.name)
    except StudyNotFoundError:
        raise StudyMismatchError(
            f"an Optuna study called {taken[0]!r} exists that Trialfleet did not create"
        ) from None


def optuna_study(
    connection: Connection, spec: Spec, name: str, *, attributes: Mapping[str, object] | None = None
) -> int:
    """Insert an Optuna study with the directions of the study's objectives; its id."""
    objectives = spec.search.objectives
    return create_study(
        connection,
        name,
        directions=[
            StudyDirection.MAXIMIZE if each.maximize else StudyDirection.MINIMIZE
            for each in objectives
        ],
        attributes=attributes,
        names=[] if objectives == (SCORE,) else [each.measure.name for each in objectives],
    )


def _insert(connection: Connection, database: Database, spec: Spec, artifacts: str) -> None:
    search_id = optuna_study(connection, spec, spec.name, attributes={"digest": spec.digest})
    values = [fixed.checked(table, spec.agent) for table in spec.enqueue]
    templates = [adding.enqueued(each, spec.agent, where="study file") for each in values]
    insert_trials(connection, search_id, templates)
    connection.execute(
        INSERT,
        {
            "name": spec.name,
            "search_id": search_id,
            "spec": spec.to_json(),
            "digest": spec.digest,
            "version": __version__,
            "compatibility": COMPATIBILITY,
            "budget": spec.budget,
            "max_failures": spec.search.max_failures,
            "max_attempts": spec.search.max_attempts,
            "artifacts": artifacts,
            "priority": spec.priority,
        },
    )
