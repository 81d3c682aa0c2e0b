"""Rows that Optuna's own code writes, in a transaction of ours instead of one of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

import optuna
from optuna.artifacts._upload import ARTIFACTS_ATTR_PREFIX, ArtifactMeta
from optuna.storages._rdb.models import (
    StudyDirectionModel,
    StudyModel,
    StudyUserAttributeModel,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from trialfleet.store.storage import Database


def create_study(
    connection: Connection, name: str, *, attributes: Mapping[str, object] | None = None
) -> int:
    """Insert an Optuna study that maximizes, in the caller's transaction; its id.

    Raises:
        IntegrityError: One of this name exists; the transaction is over.
    """
    study = StudyModel(
        study_name=name,
        directions=[StudyDirectionModel(objective=0, direction=StudyDirection.MAXIMIZE)],
        user_attributes=[
            StudyUserAttributeModel(key=key, value_json=json.dumps(value))
            for key, value in (attributes or {}).items()
        ],
    )
    with Session(bind=connection, join_transaction_mode="rollback_only") as session:
        session.add(study)
        session.flush()
        study_id = int(study.study_id)
        session.commit()
    return study_id


def insert_waiting_trials(
    connection: Connection, database: Database, study_id: int, templates: list[FrozenTrial]
) -> None:
    """Insert WAITING trials as Optuna would, in the caller's transaction: all of them, or none."""
    storage = database.optuna_storage()._backend
    with Session(bind=connection, join_transaction_mode="rollback_only") as session:
        StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        for template in templates:
            storage._get_prepared_new_trial(study_id, template, session)
            session.flush()  # the next trial's number counts this one
        session.commit()


def report(
    connection: Connection, database: Database, trial: optuna.Trial, value: float, step: int
) -> None:
    """What `trial.report` stores, in the caller's transaction; `note_report` when it is through."""
    backend = database.optuna_storage()._backend
    with Session(bind=connection, join_transaction_mode="rollback_only") as session:
        backend._set_trial_intermediate_value_without_commit(session, trial._trial_id, step, value)
        session.commit()


def note_report(trial: optuna.Trial, value: float, step: int) -> None:
    """Let the live trial know of a report that was stored: its pruner looks there."""
    trial._cached_frozen_trial.intermediate_values[step] = value


def link_artifact(trial: optuna.Trial, artifact: str, filename: str) -> None:
    """List an artifact with its trial, as `optuna.artifacts.upload_artifact` does.

    That function would name the artifact itself, and a repeated upload would list it twice.
    """
    meta = ArtifactMeta(
        artifact_id=artifact,
        filename=filename,
        mimetype="application/octet-stream",
        encoding=None,
    )
    trial.storage.set_trial_system_attr(
        trial._trial_id, ARTIFACTS_ATTR_PREFIX + artifact, json.dumps(asdict(meta))
    )
