"""Optuna's own conformance suite for storages, on ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from optuna.testing.pytest_storages import StorageTestCase
from sqlalchemy import URL

from trialfleet.postgres.database import Postgres
from trialfleet.store.optuna.storage import Storage


@pytest.fixture
def storage(database_url: URL) -> Iterator[Storage]:
    with closing(Postgres(database_url, application="tests")) as postgres:
        yield Storage(postgres)


class TestStorage(StorageTestCase):
    """Every test of `optuna.testing.pytest_storages.StorageTestCase`."""
