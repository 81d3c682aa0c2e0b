"""Artifacts as objects of an S3 bucket. Needs the extra `s3`.

Credentials, region and endpoint come from boto3's own environment (AWS_*).
"""

from __future__ import annotations

import io
import re
import shutil
from typing import BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from trialfleet.artifacts.blobs import missing, plain_name
from trialfleet.errors import UsageError

# Short, because whoever calls repeats what fails, and looks between two tries whether to stop.
_CONFIG = Config(
    connect_timeout=5.0,
    read_timeout=15.0,  # seconds without a byte
    retries={"mode": "standard", "total_max_attempts": 2},
)


class S3Store:
    """Artifacts in a bucket, all of whose keys begin with a prefix.

    Optuna's own `Boto3ArtifactStore` takes a bucket that is missing for an artifact that is: a
    worker would then start a trial over although its checkpoint is safe.

    Raises:
        UsageError: That is no bucket's name, or boto3's environment names no legal endpoint, region
            or profile.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", bucket):
            raise UsageError(f"TRIALFLEET_ARTIFACTS: {bucket!r} is not the name of a bucket")
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        try:
            self._client = boto3.client("s3", config=_CONFIG)
        except (BotoCoreError, ValueError) as exc:
            raise UsageError(f"TRIALFLEET_ARTIFACTS: s3://{bucket}: {exc}") from exc

    def _key(self, artifact_id: str) -> str:
        return self._prefix + plain_name(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store everything `content_body` has, all or nothing, as one object (5 GB at most)."""
        key = self._key(artifact_id)
        buffer = io.BytesIO()
        shutil.copyfileobj(content_body, buffer)
        # One request: S3 keeps an object only once all of it has arrived.
        self._client.put_object(Bucket=self._bucket, Key=key, Body=buffer.getvalue())

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """What is stored under `artifact_id`, or ArtifactNotFound."""
        key = self._key(artifact_id)
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=key)
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "NoSuchKey":
                raise missing(f"no artifact {artifact_id!r}") from exc
            raise
        return io.BytesIO(found["Body"].read())

    def remove(self, artifact_id: str) -> None:
        """Remove it; nothing happens if there is none."""
        self._client.delete_object(Bucket=self._bucket, Key=self._key(artifact_id))
