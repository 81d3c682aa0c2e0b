"""PostgreSQL through psycopg2: where it is, how long to wait for it, and what its errors mean."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from optuna.exceptions import UpdateFinishedTrialError
from psycopg2 import extensions
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, ProgrammingError

from trialfleet.errors import DatabaseUnavailableError, UsageError
from trialfleet.postgres import tls

# What the guard raises: leased under another fence; finished.
_REFUSED = ("FL001", "FL002")
# A server that says one of these is there, and will have us in a moment.
_BUSY = ("too many clients", "remaining connection slots")
_RESTARTING = ("starting up", "shutting down", "not yet accepting connections", "recovery mode")
# Nothing listens where it did, or the server has just ended us with an orderly or a crash restart.
_DOWN = (
    *_RESTARTING,
    "Connection refused",
    "No such file or directory",
    "terminating connection due to administrator command",
    "because of crash of another server process",
)
# What libpq says of an address at which it has met nobody.
_NOBODY = (
    "Connection refused",
    "No route to host",
    "Network is unreachable",
    "Cannot assign requested address",
    "timed out",
)
# What it says of the URL itself, before it tries any address, or of a file that the URL names.
_BAD_URL = ("invalid ", "root certificate file", "certificate file", "private key file")

REPLY_TIMEOUT = 15.0  # seconds; a worker whose leases are short waits for less
# Seconds to wait for a reply before the connection is given up; None for ever. Of the process,
# because psycopg2's wait callback is.
_reply_timeout: float | None = REPLY_TIMEOUT


def set_reply_timeout(seconds: float | None) -> None:
    """Bound every wait for PostgreSQL in this process."""
    global _reply_timeout
    _reply_timeout = seconds


def _wait(connection: Any) -> None:
    """Wait as psycopg2 would, but not for ever: a network that stalls sends no error.

    Raises:
        psycopg2.OperationalError: No reply in time; psycopg2 then closes the connection.
    """
    started = time.monotonic()
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        left = None
        if _reply_timeout is not None:
            left = started + _reply_timeout - time.monotonic()
            if left <= 0:
                raise psycopg2.OperationalError(f"no reply within {_reply_timeout:g} seconds")
        reading = [connection.fileno()] if state == extensions.POLL_READ else []
        writing = [connection.fileno()] if state == extensions.POLL_WRITE else []
        select.select(reading, writing, [], left)


extensions.set_wait_callback(_wait)


def parse_url(url: str) -> URL:
    """`url` with the driver we use.

    Raises:
        UsageError: It is not a PostgreSQL URL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:
        raise UsageError(
            "database URL: cannot be parsed; write postgresql://USER:PASSWORD@HOST:5432/DATABASE "
            "with special characters of the password percent-encoded"
        ) from exc
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise UsageError(f"database URL: {parsed.drivername!r} is not supported; use postgresql://")
    return parsed.set(drivername="postgresql+psycopg2")


def optuna_url(url: URL) -> str:
    """The URL as text for Optuna's RDBStorage, password included."""
    # It passes its URL through str.format, so a brace in a password must not look like one.
    plain = url.render_as_string(hide_password=False)
    return plain.replace("{", "%7B").replace("}", "%7D")


def engine_options(application: str) -> dict[str, Any]:
    """Arguments of `create_engine` for a process called `application` in `pg_stat_activity`."""
    return {
        # A worker needs one connection for its trial and one for its heartbeat, and many workers
        # share one server.
        "pool_size": 1,
        "max_overflow": 1,
        "pool_pre_ping": True,
        "connect_args": {
            "application_name": application,
            # A peer that vanished is noticed in half a minute, not in the two hours of the default.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
    }


def lease_was_lost(exc: BaseException) -> bool:
    """Whether a write was refused because the trial is no longer ours, or finished."""
    return any(
        isinstance(error, UpdateFinishedTrialError)
        or (isinstance(error, psycopg2.Error) and error.pgcode in _REFUSED)
        for error in _chain(exc)
    )


def is_outage(exc: BaseException) -> bool:
    """Whether `exc` says that the database is away, restarting or out of connections.

    Such a statement may have committed: only repeat what is safe to repeat.
    """
    # Deadlocks and serialisation failures are OperationalErrors too, and gone at the next try.
    return any(
        (isinstance(error, DBAPIError) and error.connection_invalidated)
        or isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
        for error in _chain(exc)
    )


def is_down(exc: BaseException) -> bool:
    """Whether the server, or the machine it ran on, says that it is not serving anybody.

    A stalled or cut network looks different: there, others may still be served.
    """
    return any(words in str(error) for error in _chain(exc) for words in _DOWN)


def is_momentary(exc: BaseException) -> bool:
    """Whether the server itself said that it will accept us soon."""
    return any(words in str(error) for error in _chain(exc) for words in (*_BUSY, *_RESTARTING))


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        original = getattr(exc, "orig", None)
        exc = original if isinstance(original, BaseException) else exc.__cause__ or exc.__context__


@contextmanager
def translated_errors(url: URL) -> Iterator[None]:
    """Connection errors as ours, of one line, without the password.

    Raises:
        UsageError: The URL has an option, or names a file, that is none.
        DatabaseUnavailableError: Anything else.
    """
    try:
        yield
    except (OperationalError, ProgrammingError) as exc:
        reason = _telling(str(exc.orig))
        if url.password:
            reason = reason.replace(str(url.password), "***")
        if isinstance(exc, ProgrammingError) and "connection option" not in reason:
            raise  # a statement's, not the connection's
        if reason.rpartition("failed: ")[2].startswith(_BAD_URL):
            raise UsageError(f"database URL: {reason}") from None
        if reason.endswith("certificate verify failed") and (known := tls.refusal(url)):
            reason = f"{reason}: {known}"
        hosts = url.query.get("host") or "the local socket"
        where = url.host or (hosts if isinstance(hosts, str) else ", ".join(hosts))
        raise DatabaseUnavailableError(f"PostgreSQL at {where}: {reason}") from None


def _telling(message: str) -> str:
    """The line of libpq's message that says most: it has one for each address that it tried."""
    lines = message.strip().splitlines() or ["no reason given"]
    met = [line for line in lines if "failed: " in line and not any(w in line for w in _NOBODY)]
    return (met or lines)[0]
