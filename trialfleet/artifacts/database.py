"""Artifacts in PostgreSQL itself, the default: nothing else has to be reached by every worker."""

from __future__ import annotations

import io
from typing import BinaryIO

from sqlalchemy import text

from trialfleet.artifacts.blobs import CHUNK, missing, plain_name
from trialfleet.postgres.database import Postgres

WRITE_BLOB = text("""
    INSERT INTO fleet.blobs (blob_id, size) VALUES (:blob_id, 0)
    ON CONFLICT (blob_id) DO NOTHING
""")
CLEAR = text("DELETE FROM fleet.blob_chunks WHERE blob_id = :blob_id")
WRITE_CHUNK = text("""
    INSERT INTO fleet.blob_chunks (blob_id, position, data) VALUES (:blob_id, :position, :data)
""")
SEAL = text("UPDATE fleet.blobs SET size = :size WHERE blob_id = :blob_id")
READ_BLOB = text("SELECT size FROM fleet.blobs WHERE blob_id = :blob_id")
READ_CHUNKS = text("""
    SELECT data FROM fleet.blob_chunks WHERE blob_id = :blob_id ORDER BY position
""")
REMOVE = text("DELETE FROM fleet.blobs WHERE blob_id = :blob_id")


class DatabaseStore:
    """Artifacts in the tables `fleet.blobs` and `fleet.blob_chunks`.

    Bytes travel in chunks, so that a large blob needs no large statement.
    """

    def __init__(self, database: Postgres) -> None:
        self._database = database

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store everything `content_body` has, all or nothing."""
        plain_name(artifact_id)
        size, position = 0, 0
        with self._database.transaction() as connection:
            connection.execute(WRITE_BLOB, {"blob_id": artifact_id})
            connection.execute(CLEAR, {"blob_id": artifact_id})
            while chunk := content_body.read(CHUNK):
                values = {"blob_id": artifact_id, "position": position, "data": chunk}
                connection.execute(WRITE_CHUNK, values)
                size, position = size + len(chunk), position + 1
            connection.execute(SEAL, {"blob_id": artifact_id, "size": size})

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """What is stored under `artifact_id`, or ArtifactNotFound."""
        plain_name(artifact_id)
        with self._database.transaction() as connection:
            if connection.scalar(READ_BLOB, {"blob_id": artifact_id}) is None:
                raise missing(f"no artifact {artifact_id!r}")
            chunks = connection.execute(READ_CHUNKS, {"blob_id": artifact_id}).scalars()
            return io.BytesIO(b"".join(bytes(chunk) for chunk in chunks))

    def remove(self, artifact_id: str) -> None:
        """Remove it; nothing happens if there is none."""
        plain_name(artifact_id)
        with self._database.transaction() as connection:
            connection.execute(REMOVE, {"blob_id": artifact_id})
