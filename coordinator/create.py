"""Create a study from its file, or join the one that was created from the same file before."""

from __future__ import annotations

import optuna
from optuna.exceptions import DuplicatedStudyError
from sqlalchemy import text

from trialfleet import COMPATIBILITY, __version__
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import StudyMismatchError, StudyNotFoundError
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.study.spec import Spec

# Two coordinators that start together both insert; the second one's row is the first one's.
INSERT = text("""
    INSERT INTO fleet.studies
        (name, search_id, spec, digest, version, compatibility, budget, max_failures,
         max_attempts, artifacts)
    VALUES (:name, :search_id, :spec, :digest, :version, :compatibility, :budget, :max_failures,
            :max_attempts, :artifacts)
    ON CONFLICT DO NOTHING
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
    open_store(artifacts, database)  # refuses what is no store's URL, before anything is written
    search = _optuna_study(database, spec.name)
    if search.get_trials(deepcopy=False):
        # Another coordinator may have stored it since we looked, and workers have begun.
        try:
            return studies.find(database, spec.name)
        except StudyNotFoundError:
            raise StudyMismatchError(
                f"an Optuna study called {spec.name!r} exists that Trialfleet did not create"
            ) from None
    with database.transaction() as connection:
        connection.execute(
            INSERT,
            {
                "name": spec.name,
                "search_id": search._study_id,
                "spec": spec.to_json(),
                "digest": spec.digest,
                "version": __version__,
                "compatibility": COMPATIBILITY,
                "budget": spec.search.trials,
                "max_failures": spec.search.max_failures,
                "max_attempts": spec.search.max_attempts,
                "artifacts": artifacts,
            },
        )
    study = studies.find(database, spec.name)
    search.set_user_attr("digest", study.digest)
    return study


def create_final(database: Database, study: Study) -> optuna.Study:
    """The Optuna study of the final stage, empty unless it exists."""
    return _optuna_study(database, study.final_name)


def _optuna_study(database: Database, name: str) -> optuna.Study:
    try:
        storage = database.optuna_storage()
        storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], name)
    except DuplicatedStudyError:
        pass  # left behind by a coordinator that died here, or made by one that runs beside us
    return database.optuna_study(name)
