"""Every test's own database: a copy of one migrated template, on one PostgreSQL a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from sqlalchemy import URL

from tests.support.processes import Commands
from tests.support.server import Server, temporary_server
from trialfleet.store.storage import Database


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """PostgreSQL without durability; each process of pytest-xdist has its own."""
    with temporary_server() as running:
        yield running


@pytest.fixture(autouse=True)
def _logs_as_they_are_by_default() -> Iterator[None]:
    """A command that ran in a test's process has set where logs go; the next test sets its own."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def database_url(server: Server) -> Iterator[URL]:
    """A database of this test's own, its schema ready and without a study."""
    with server.fresh_database() as url:
        yield url


@pytest.fixture
def empty_database_url(server: Server) -> Iterator[URL]:
    """A database of this test's own in which nobody has run a migration."""
    with server.fresh_database(template="template1") as url:
        yield url


@pytest.fixture
def open_database(database_url: URL) -> Iterator[Callable[[], Database]]:
    """Opens the test's database, each time as another process would; all are closed at the end."""
    opened: list[Database] = []

    def open_one() -> Database:
        opened.append(Database(database_url, application="tests"))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture
def database(open_database: Callable[[], Database]) -> Database:
    """The test's database, opened."""
    return open_database()


@pytest.fixture
def commands(database_url: URL, tmp_path: Path) -> Iterator[Commands]:
    """Starts `trialfleet` on the test's database, in a folder of its own."""
    with closing(Commands(tmp_path, database_url)) as starter:
        yield starter
