"""The artifact store: models and checkpoints, wherever every worker can reach them.

Three stores behind Optuna's `ArtifactStore` protocol (open_reader, write, remove), chosen by URL:
`database` (the default), `file:///folder`, `s3://bucket/prefix`. What is put through `put` is
recorded with its SHA-256 and checked by `get`, whichever store it lies in.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import text

from trialfleet.errors import ArtifactStoreError, BlobDamagedError, UsageError
from trialfleet.postgres.database import Postgres

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

CHUNK = 1 << 20  # bytes; well under PostgreSQL's limits, large enough to be few
_LONGEST_NAME = 200  # bytes; a file system takes 255, and a file that is being written a suffix


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What is known of a blob besides its bytes."""

    artifact: str
    sha256: str
    size: int  # bytes


def put(store: ArtifactStore, artifact: str, data: bytes) -> Stored:
    """Write `data` under the name `artifact`, replacing what was there.

    Raises:
        ArtifactStoreError: The store is full, read-only or away.
    """
    with _store_errors():
        store.write(artifact, io.BytesIO(data))
    return Stored(artifact=artifact, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def get(store: ArtifactStore, stored: Stored) -> bytes:
    """The bytes of a blob, checked.

    Raises:
        BlobDamagedError: They are gone, or not the ones that were written.
        ArtifactStoreError: The store cannot be read now.
    """
    with _store_errors():
        try:
            with store.open_reader(stored.artifact) as reader:
                data = reader.read()
        except ArtifactNotFound as exc:
            raise BlobDamagedError(f"artifact {stored.artifact!r} is not in the store") from exc
    if hashlib.sha256(data).hexdigest() != stored.sha256:
        raise BlobDamagedError(f"artifact {stored.artifact!r} does not match its SHA-256")
    return data


def remove(store: ArtifactStore, artifact: str) -> None:
    """Remove a blob; nothing happens if there is none.

    Raises:
        ArtifactStoreError: The store is read-only or away.
    """
    with _store_errors():
        store.remove(artifact)


def plain_name(artifact: str) -> str:
    """The name itself, if every store can keep it to the letter and none would take it for a path.

    Raises:
        ArtifactNotFound: It is no such name, so nothing can be stored under it.
    """
    # Printable: no control character, no mark of writing direction, no lone surrogate.
    plain = artifact.isprintable() and artifact[:1] != "." and not {"/", "\\"} & set(artifact)
    if not plain or not 0 < len(artifact.encode()) <= _LONGEST_NAME:
        raise ArtifactNotFound(f"{artifact[:_LONGEST_NAME]!r} is not the name of an artifact")
    return artifact


def open_store(url: str, database: Postgres) -> ArtifactStore:
    """The store that `url` names.

    Raises:
        UsageError: It names none, or one whose extra is not installed.
    """
    parts = urlsplit(url)
    if url == "database":
        return DatabaseStore(database)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return FileStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return _s3_store(parts.netloc, parts.path.strip("/"))
    raise UsageError(
        f"TRIALFLEET_ARTIFACTS: {url!r} is no artifact store; "
        "use database, file:///FOLDER or s3://BUCKET/PREFIX"
    )


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
                raise ArtifactNotFound(f"no artifact {artifact_id!r}")
            chunks = connection.execute(READ_CHUNKS, {"blob_id": artifact_id}).scalars()
            return io.BytesIO(b"".join(bytes(chunk) for chunk in chunks))

    def remove(self, artifact_id: str) -> None:
        """Remove it; nothing happens if there is none."""
        plain_name(artifact_id)
        with self._database.transaction() as connection:
            connection.execute(REMOVE, {"blob_id": artifact_id})


class FileStore:
    """Artifacts as files of one folder, which every worker must see (a shared volume)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, artifact_id: str) -> Path:
        return self._folder / plain_name(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store everything `content_body` has, all or nothing, safe from a crash of the machine."""
        path = self._path(artifact_id)
        self._folder.mkdir(parents=True, exist_ok=True)
        # A name of this process's own: two workers may write the same artifact at once.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
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
            raise ArtifactNotFound(f"no artifact {artifact_id!r}") from exc

    def remove(self, artifact_id: str) -> None:
        """Remove it; nothing happens if there is none."""
        self._path(artifact_id).unlink(missing_ok=True)


def _s3_store(bucket: str, prefix: str) -> ArtifactStore:
    try:
        from trialfleet.artifacts.s3 import S3Store
    except ImportError as exc:
        raise UsageError("TRIALFLEET_ARTIFACTS: s3:// needs trialfleet[s3] installed") from exc
    return S3Store(bucket, prefix)


@contextmanager
def _store_errors() -> Iterator[None]:
    """The stores' own errors as one of ours; the database's stay what they are."""
    try:
        yield
    except OSError as exc:
        raise ArtifactStoreError(f"the artifact store failed: {exc}") from exc
    except Exception as exc:
        # boto3 is optional, so its errors are known by where they come from.
        if type(exc).__module__.partition(".")[0] != "botocore":
            raise
        raise ArtifactStoreError(f"the artifact store failed: {exc}") from exc
