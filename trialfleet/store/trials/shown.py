"""What optuna-dashboard shows beside the trials: notes and artifacts, in a study's attributes.

A note is text in Markdown: a version, and pieces of the text. The dashboard makes a new version of
a note that somebody edits there, and ours is always version 0: so we know an edited one, and leave
it alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection, text

from trialfleet.store.optuna import statements
from trialfleet.store.trials import life
from trialfleet.store.trials.optuna_rows import artifact_link

_PIECE = 2_045  # characters; Optuna's own limit, from when its column was that short
_OURS = "0"  # the version of a note that nobody has edited, as JSON

VERSION = text("""
    SELECT value_json FROM public.study_system_attributes
    WHERE study_id = :study_id AND key = :key
""")
CLEAR = text("""
    DELETE FROM public.study_system_attributes
    WHERE study_id = :study_id AND starts_with(key, :prefix)
""")


def write_notes(
    connection: Connection, study_id: int, notes: Mapping[int | None, str]
) -> list[int | None]:
    """Write the notes of an Optuna study, in the caller's transaction.

    Args:
        connection: Of a transaction.
        study_id: Optuna's.
        notes: Markdown, by the trial that it is about; None for the study.

    Returns:
        Those that somebody has edited, which stay as they are.
    """
    life.lock_study(connection, study_id)  # two coordinators would mix their pieces
    edited = []
    for trial_id, body in notes.items():
        about = "dashboard:" if trial_id is None else f"dashboard:{trial_id}:"
        key = {"study_id": study_id, "key": f"{about}note_ver"}
        if connection.scalar(VERSION, key) not in (None, _OURS):  # whoever wrote it, and whatever
            edited.append(trial_id)
            continue
        connection.execute(CLEAR, {"study_id": study_id, "prefix": f"{about}note_str:"})
        pieces = [body[start : start + _PIECE] for start in range(0, len(body), _PIECE)]
        for number, piece in enumerate(pieces):
            _set(connection, study_id, f"{about}note_str:{number}", piece)
        _set(connection, study_id, f"{about}note_ver", json.loads(_OURS))
    return edited


def list_artifact(
    connection: Connection, study_id: int, artifact: str, *, filename: str, mimetype: str
) -> None:
    """List an artifact with its Optuna study, in the caller's transaction."""
    for key, value in artifact_link(artifact, filename, mimetype).items():
        _set(connection, study_id, key, value)


def _set(connection: Connection, study_id: int, key: str, value: object) -> None:
    connection.execute(
        statements.SET_STUDY_ATTRIBUTE["study_system_attributes"],
        {"study_id": study_id, "key": key, "value": json.dumps(value)},
    )
