"""The saved agent: its two files, and fresh episodes with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load

from trialfleet.artifacts import blobs
from trialfleet.artifacts.blobs import Stored
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import UsageError
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study


def save_model(database: Database, study: Study, folder: Path) -> Path:
    """Write the best agent of a study that is done: NAME.safetensors and its manifest NAME.json."""
    assert study.result is not None
    manifest = study.result["model"]
    stored = Stored(**{key: manifest[key] for key in ("artifact", "sha256", "size")})
    data = blobs.get(open_store(study.artifacts, database), stored)
    path = folder / f"{study.name}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, data)
        _write(path.with_suffix(".json"), json.dumps(manifest, indent=2).encode() + b"\n")
    except OSError as exc:
        raise UsageError(f"--out: cannot write to {str(folder)!r}: {exc.strerror}") from exc
    return path


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: a reader never sees half a file."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def load_model(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A saved agent's arrays and manifest, checked against its SHA-256.

    Raises:
        UsageError: The files are missing, damaged, or no saved agent.
    """
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: a saved agent is a .safetensors file with a .json beside it")
    try:
        data = path.read_bytes()
        manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        expected, env = manifest["sha256"], manifest["task"]["env"]
    except OSError as exc:
        raise UsageError(f"{exc.filename}: cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(f"{path.with_suffix('.json')}: not the manifest of an agent") from exc
    if not isinstance(env, str):
        raise UsageError(f"{path.with_suffix('.json')}: not the manifest of an agent")
    if hashlib.sha256(data).hexdigest() != expected:
        raise UsageError(f"{path}: its bytes do not match the SHA-256 of its manifest")
    try:
        # safetensors holds plain arrays only: nothing in it is ever executed.
        return load(data), manifest
    except SafetensorError as exc:
        raise UsageError(f"{path}: not a safetensors file: {exc}") from exc
