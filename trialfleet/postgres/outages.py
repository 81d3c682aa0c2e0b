"""What an error of the database means: an outage, a lost lease, or something else."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg2
from optuna.exceptions import UpdateFinishedTrialError
from sqlalchemy.exc import DBAPIError

# What the guard raises (leased under another fence; finished), and what PostgreSQL does where the
# trial itself is gone (foreign_key_violation).
_REFUSED = ("FL001", "FL002", "23503")
_LOCKED = "55P03"  # lock_not_available: after lock_timeout
# A server that says one of these is there, and will have us in a moment.
_BUSY = (
    "too many clients",
    "remaining connection slots",
    "too many connections for",  # a role, or a database
    "no more connections allowed",  # PgBouncer
)
_RESTARTING = ("starting up", "shutting down", "not yet accepting connections", "recovery mode")
# Nothing listens where it did, or the server has just ended us with an orderly or a crash restart.
_DOWN = (
    *_RESTARTING,
    "Connection refused",
    "No such file or directory",
    "terminating connection due to administrator command",
    "because of crash of another server process",
)


def lease_was_lost(exc: BaseException) -> bool:
    """Whether a write was refused because the trial is no longer ours, finished, or gone."""
    return any(
        isinstance(error, UpdateFinishedTrialError)
        or (isinstance(error, psycopg2.Error) and error.pgcode in _REFUSED)
        for error in chain(exc)
    )


def is_outage(exc: BaseException) -> bool:
    """Whether `exc` says that the database is away, restarting or out of connections.

    Such a statement may have committed: only repeat what is safe to repeat.
    """
    # Deadlocks and serialisation failures are OperationalErrors too, and gone at the next try.
    return any(
        (isinstance(error, DBAPIError) and error.connection_invalidated)
        or isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
        for error in chain(exc)
    )


def is_locked(exc: BaseException) -> bool:
    """Whether the server gave up waiting for a lock: it is there, and somebody holds that lock."""
    return any(getattr(error, "pgcode", None) == _LOCKED for error in chain(exc))


def is_down(exc: BaseException) -> bool:
    """Whether the server, or the machine it ran on, says that it is not serving anybody.

    A stalled or cut network looks different: there, others may still be served.
    """
    return any(words in str(error) for error in chain(exc) for words in _DOWN)


def is_momentary(exc: BaseException) -> bool:
    """Whether the server itself said that it will accept us soon."""
    return any(words in str(error) for error in chain(exc) for words in (*_BUSY, *_RESTARTING))


def is_crowded(message: str) -> bool:
    """Whether a server says that it has no connection left for us."""
    return any(words in message for words in _BUSY)


def chain(exc: BaseException | None) -> Iterator[BaseException]:
    """An error and everything that it was raised from."""
    while exc is not None:
        yield exc
        original = getattr(exc, "orig", None)
        exc = original if isinstance(original, BaseException) else exc.__cause__ or exc.__context__
