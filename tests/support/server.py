"""A throw-away PostgreSQL for a test session, and databases made from one migrated template."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from trialfleet.cli.schema import migrate
from trialfleet.postgres.embedded import embedded_postgres
from trialfleet.postgres.url import parse_url

# Nothing here has to survive a crash of the machine. A test opens two connections for each of its
# threads and processes, so there are enough of them for a few tests' worth of leftovers.
CONFIGURATION = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 300
timezone = 'UTC'
log_timezone = 'UTC'
"""
_TEMPLATE = "fleet_template"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running PostgreSQL, and where its data lies."""

    url: URL  # its maintenance database, as superuser
    data: Path

    def execute(self, statement: str) -> None:
        """Run one statement outside of any transaction, as CREATE DATABASE wants it."""
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))

    @contextmanager
    def fresh_database(self, *, template: str = _TEMPLATE) -> Iterator[URL]:
        """A database of its own, a copy of `template`; it goes with everything connected to it."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url.set(database=name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def temporary_server() -> Iterator[Server]:
    """A server with a migrated template; each process of pytest-xdist has its own."""
    # A socket's path may have 107 characters, fewer than pytest's own temporary folders take.
    folder = Path(tempfile.mkdtemp(prefix="fleet-", dir="/tmp"))
    try:
        with embedded_postgres(folder / "pg", configuration=CONFIGURATION) as url:
            server = Server(url=parse_url(url), data=folder / "pg")
            server.execute(f"CREATE DATABASE {_TEMPLATE}")
            migrate(server.url.set(database=_TEMPLATE))
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def plain(url: URL) -> str:
    """The URL as a user would write it, password included."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
