"""Artifacts as files of one folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import BinaryIO

from trialfleet.artifacts.blobs import CHUNK, missing, plain_name


class FolderStore:
    """A folder that every worker must see (a shared volume)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, artifact_id: str) -> Path:
        return self._folder / plain_name(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store everything `content_body` has, all or nothing, safe from a crash of the machine."""
        path = self._path(artifact_id)
        self._folder.mkdir(parents=True, exist_ok=True)
        # A name of this call's own: two workers may write the same artifact at once, and in
        # containers each is process 1.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with temporary.open("wb") as file:
                while chunk := content_body.read(CHUNK):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself
        finally:
            os.close(folder)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """What is stored under `artifact_id`, or ArtifactNotFound."""
        try:
            return self._path(artifact_id).open("rb")
        except FileNotFoundError as exc:
            raise missing(f"no artifact {artifact_id!r}") from exc

    def remove(self, artifact_id: str) -> None:
        """Remove it; nothing happens if there is none."""
        self._path(artifact_id).unlink(missing_ok=True)
