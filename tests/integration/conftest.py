"""What only some of these tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.s3 import S3Server, s3_server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server; each process of pytest-xdist has its own."""
    with s3_server() as running:
        yield running
