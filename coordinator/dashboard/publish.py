"""Brings what optuna-dashboard shows beside the trials up to date: notes, and the end's files."""

from __future__ import annotations

import json

import structlog

from coordinator.dashboard import notes
from trialfleet.artifacts.stores import open_store
from trialfleet.store.artifacts import owned
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import following, shown

log = structlog.get_logger()


def publish(database: Database, study: Study) -> None:
    """Write the notes of the study as it stands, and at its end the files of its final stage.

    It may be repeated: the same notes and files are there once. A note that somebody has edited in
    the dashboard stays as it is.

    Raises:
        ArtifactStoreError: The store is full, read-only or away; the notes are not written.
    """
    artifacts = _attach_model(database, study) if study.result is not None else {}
    note = notes.study_note(study, artifacts=artifacts)
    finalists = notes.finalist_notes(study)
    with database.transaction() as connection:
        trials = following.watched(connection, study.search_id, numbers=finalists)
        about: dict[int | None, str] = {t.trial_id: finalists[t.number] for t in trials}
        edited = shown.write_notes(connection, study.search_id, {**about, None: note})
    if study.final_id is not None:
        with database.transaction() as connection:
            edited += shown.write_notes(connection, study.final_id, {None: note})
    if edited:
        log.info("notes edited in the dashboard stay as they are", study=study.name)


def attach(database: Database, study: Study, *, filename: str, mimetype: str, data: bytes) -> str:
    """Store a file and list it with the study's final stage; the artifact's name.

    The same file name replaces what it named before.

    Raises:
        ArtifactStoreError: The store is full, read-only or away.
    """
    stored = owned.put(
        database,
        open_store(study.artifacts, database),
        study,
        kind="best",
        label=f"{study.name}-{study.search_id}{study.edition}-{filename}",
        data=data,
    )
    _list(database, study, stored.artifact, filename, mimetype)
    return stored.artifact


def _attach_model(database: Database, study: Study) -> dict[str, str]:
    """The best agent, which is stored already, and what is known of it; their names by file."""
    assert study.result is not None
    model = study.result["model"]
    weights, manifest = f"{study.name}.safetensors", f"{study.name}.json"
    _list(database, study, model["artifact"], weights, "application/octet-stream")
    text = json.dumps(model, indent=2).encode()
    told = attach(database, study, filename=manifest, mimetype="application/json", data=text)
    return {weights: model["artifact"], manifest: told}


def _list(database: Database, study: Study, artifact: str, filename: str, mimetype: str) -> None:
    assert study.final_id is not None
    with database.transaction() as connection:
        shown.list_artifact(
            connection, study.final_id, artifact, filename=filename, mimetype=mimetype
        )
