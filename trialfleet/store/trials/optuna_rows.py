"""Rows that look as Optuna's own code would make them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from optuna.study import StudyDirection
from optuna.study.study import _SYSTEM_ATTR_METRIC_NAMES
from optuna.trial import FrozenTrial
from sqlalchemy import Connection

from trialfleet.store.optuna import statements
from trialfleet.store.optuna.templates import insert
from trialfleet.store.trials import life


def create_study(
    connection: Connection,
    name: str,
    *,
    directions: Sequence[StudyDirection] = (StudyDirection.MAXIMIZE,),
    attributes: Mapping[str, object] | None = None,
    names: Sequence[str] = (),
) -> int:
    """Insert an Optuna study, in the caller's transaction; its id.

    Args:
        connection: Of a transaction.
        name: Not taken.
        directions: Of each objective.
        attributes: Of the user's kind.
        names: Of the objectives, for whoever shows them; none for the usual one.

    Raises:
        IntegrityError: One of this name exists; the transaction is over.
    """
    life.steer(connection)
    values = {"name": name, "directions": [each.name for each in directions]}
    study_id = int(connection.execute(statements.CREATE_STUDY, values).scalar_one())
    for key, value in (attributes or {}).items():
        connection.execute(
            statements.SET_STUDY_ATTRIBUTE["study_user_attributes"],
            {"study_id": study_id, "key": key, "value": json.dumps(value)},
        )
    if names:
        connection.execute(
            statements.SET_STUDY_ATTRIBUTE["study_system_attributes"],
            {"study_id": study_id, "key": _SYSTEM_ATTR_METRIC_NAMES, "value": json.dumps([*names])},
        )
    return study_id


def rename_study(connection: Connection, study_id: int, name: str) -> None:
    """Give an Optuna study another name, in the caller's transaction.

    Raises:
        IntegrityError: One of this name exists; the transaction is over.
    """
    life.steer(connection)
    connection.execute(statements.RENAME_STUDY, {"study_id": study_id, "name": name})


def insert_trials(connection: Connection, study_id: int, templates: Sequence[FrozenTrial]) -> None:
    """Insert trials as Optuna would, in the caller's transaction: all of them, or none."""
    life.lock_study(connection, study_id)
    life.steer(connection)
    insert(connection, study_id, templates)


def artifact_link(
    artifact: str, filename: str, mimetype: str = "application/octet-stream"
) -> dict[str, str]:
    """The system attribute that lists an artifact with its trial or study, as Optuna sets it.

    Its `upload_artifact` would name the artifact itself, and a repeated upload would list it twice.
    Its package, which knows the names used here, loads boto3 wherever that is installed.
    """
    meta = {
        "artifact_id": artifact,
        "filename": filename,
        "mimetype": mimetype,
        "encoding": None,
    }
    return {f"artifacts:{artifact}": json.dumps(meta)}
