"""A fleet on the test's own database, and a network to put in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.faults.fleet import Fleet
from tests.faults.proxy import Proxy
from tests.faults.servers import OwnServer, own_server, through, unix_socket
from tests.support.server import plain


@pytest.fixture
def fleet(database_url: URL, tmp_path: Path) -> Iterator[Fleet]:
    """Processes on the test's database."""
    opened = Fleet(database_url, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def proxy(database_url: URL) -> Iterator[Proxy]:
    """A network to the test's database."""
    with Proxy(unix_socket(database_url)) as running:
        yield running


@pytest.fixture
def proxy_url(database_url: URL, proxy: Proxy) -> URL:
    """The test's database through that network."""
    return through(database_url, proxy)


@pytest.fixture(scope="session")
def restartable() -> Iterator[OwnServer]:
    """A server that tests may stop and reconfigure; each leaves it running."""
    with own_server() as running:
        yield running


@pytest.fixture
def _here(database_url: URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands in the test's process use its database, and a folder of its own."""
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    monkeypatch.setenv("TRIALFLEET_MIGRATION_PATIENCE", "0")
    monkeypatch.chdir(tmp_path)
