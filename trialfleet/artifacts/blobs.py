"""The artifact store: models and checkpoints, wherever every worker can reach them.

Three stores behind Optuna's `ArtifactStore` protocol (open_reader, write, remove): `database`,
`folder` and `s3`, opened by `stores`. What goes through `put` is described with its SHA-256 and
checked by `get`, whichever store it lies in.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialfleet.errors import ArtifactStoreError, BlobDamagedError

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore
    from optuna.artifacts.exceptions import ArtifactNotFound

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
        except Exception as exc:
            if not _is_missing(exc):
                raise
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
        raise missing(f"{artifact[:_LONGEST_NAME]!r} is not the name of an artifact")
    return artifact


def missing(what: str) -> ArtifactNotFound:
    """What a store raises that does not have an artifact: Optuna's own error.

    It is imported when there is one to raise: its package loads boto3 wherever that is installed,
    which takes every process half a second, for S3 or not.
    """
    from optuna.artifacts.exceptions import ArtifactNotFound

    return ArtifactNotFound(what)


def _is_missing(exc: Exception) -> bool:
    from optuna.artifacts.exceptions import ArtifactNotFound

    return isinstance(exc, ArtifactNotFound)


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
