"""The best agent of a study that is done, saved: its two files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from safetensors.numpy import load

from trialfleet.artifacts import blobs
from trialfleet.artifacts.blobs import Stored
from trialfleet.artifacts.stores import open_store
from trialfleet.cli.agent.files import write
from trialfleet.errors import UsageError
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.trainers.function.models import of_arrays


def save_model(database: Database, study: Study, folder: Path) -> Path:
    """Write NAME.safetensors and its manifest NAME.json; the path of the first.

    A model of one's own training also as the file that the function made of it.
    """
    return save_bytes(study, best_model(database, study), folder)


def of_trial(study: Study, number: int) -> Study:
    """The study as if the finalist of this number had won it: for files of its agent.

    Raises:
        UsageError: It has no saved agent of its own.
    """
    assert study.result is not None
    result = study.result
    models = result.get("models") or {str(result["model"]["search_trial"]): result["model"]}
    if str(number) not in models:
        raise UsageError(
            f"--trial: trial {number} of study {study.name!r} has no saved agent; there is one of"
            f" {', '.join(models)}"
        )
    (rank,) = (row["rank"] for row in result["finalists"] if row["trial"] == number)
    return replace(
        study,
        name=f"{study.name}-trial-{number}",
        result={**result, "winner": rank, "model": models[str(number)]},
    )


def save_bytes(study: Study, data: bytes, folder: Path) -> Path:
    """Do so with the bytes at hand."""
    assert study.result is not None
    path = folder / f"{study.name}.safetensors"
    manifest = json.dumps(study.result["model"], indent=2).encode() + b"\n"
    write(path, data, option="--out")
    write(path.with_suffix(".json"), manifest, option="--out")
    if study.spec.task.objective is not None and (own := of_arrays(load(data))) is not None:
        content, suffix = own
        write(folder / f"{study.name}{suffix}", content, option="--out")
    return path


def best_model(database: Database, study: Study) -> bytes:
    """The bytes of NAME.safetensors, as stored.

    Raises:
        BlobDamagedError: They are missing or damaged.
    """
    assert study.result is not None
    manifest = study.result["model"]
    stored = Stored(**{key: manifest[key] for key in ("artifact", "sha256", "size")})
    return blobs.get(open_store(study.artifacts, database), stored)
