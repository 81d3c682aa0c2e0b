"""Opening the artifact store that a URL names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from trialfleet.artifacts.database import DatabaseStore
from trialfleet.artifacts.folder import FolderStore
from trialfleet.errors import UsageError
from trialfleet.postgres.database import Postgres

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore


def open_store(url: str, database: Postgres) -> ArtifactStore:
    """The store that `url` names.

    Raises:
        UsageError: It names none, or one that needs an extra which is not installed.
    """
    parts = urlsplit(url)
    if url == "database":
        return DatabaseStore(database)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return _s3_store(parts.netloc, parts.path.strip("/"))
    raise UsageError(
        f"TRIALFLEET_ARTIFACTS: {url!r} is not an artifact store; "
        "use database, file:///FOLDER or s3://BUCKET/PREFIX"
    )


def _s3_store(bucket: str, prefix: str) -> ArtifactStore:
    try:
        from trialfleet.artifacts.s3 import S3Store
    except ImportError as exc:
        raise UsageError("TRIALFLEET_ARTIFACTS: s3:// needs trialfleet[s3] installed") from exc
    return S3Store(bucket, prefix)
