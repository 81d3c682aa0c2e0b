"""Waiting out a database, or an artifact store, that is away for a while."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from trialfleet.errors import (
    ArtifactStoreError,
    DatabaseLimitError,
    DatabaseLockedError,
    DatabaseUnavailableError,
)
from trialfleet.parent import tell
from trialfleet.postgres.outages import chain, is_locked, is_outage

T = TypeVar("T")
log = structlog.get_logger()

# What PostgreSQL may have again at the next try: SQLSTATE -> what to do if it does not.
_LIMITS = {
    "57014": "See in pg_stat_activity what keeps PostgreSQL busy, or raise the statement_timeout "
    "of this role, if it has one.",
    "53100": "Give PostgreSQL's disk some space.",
    "53200": "Give PostgreSQL's machine more memory.",
}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds


def patiently(
    operation: Callable[[], T],
    *,
    patience: float,
    pause: Callable[[float], object] = time.sleep,
    longest_pause: float = _LONGEST_PAUSE,
) -> T:
    """`operation()`, repeated with growing, jittered pauses while database or store are away.

    Args:
        operation: Safe to repeat, also when a try has committed and only its reply was lost.
        patience: Seconds from the first failure to giving up.
        pause: Called with the seconds to wait; may raise to end the waiting.
        longest_pause: Seconds; the pauses grow to this.

    Raises:
        DatabaseUnavailableError, ArtifactStoreError: It stayed away.
    """
    started: float | None = None
    longest = _FIRST_PAUSE
    while True:
        try:
            return operation()
        except Exception as exc:
            store_failed = isinstance(exc, ArtifactStoreError)
            if not (is_outage(exc) or store_failed or isinstance(exc, DatabaseUnavailableError)):
                raise
            now = time.monotonic()
            started = now if started is None else started
            if now - started >= patience:
                if store_failed:
                    raise
                if is_locked(exc):
                    raise locked(exc, seconds=now - started) from exc
                what = f"PostgreSQL was away for {now - started:.0f} seconds"
                raise unavailable(exc, what) from exc
            if longest == _FIRST_PAUSE:
                what = "artifact store" if store_failed else "database"
                what = "lock held" if is_locked(exc) else f"{what} away"
                log.warning(f"{what}, waiting", reason=first_line(exc))
                if store_failed:  # who watches a worker does not see the store
                    tell("waits", str(exc))
            # Full jitter: workers that lost the database together do not come back together.
            pause(random.uniform(0, longest))
            longest = min(2 * longest, longest_pause)


def locked(exc: BaseException, *, seconds: float | None = None) -> DatabaseLockedError:
    """What to tell of a lock that was waited for in vain, for so many seconds if they are known."""
    waited = "" if seconds is None else f" for {seconds:.0f} seconds"
    return DatabaseLockedError(f"somebody held a lock in the database{waited}: {first_line(exc)}")


def unavailable(exc: BaseException, what: str) -> DatabaseUnavailableError:
    """An outage as one line, with what to do about it.

    Args:
        exc: It.
        what: What the line begins with.
    """
    message = f"{what}: {first_line(exc)}"
    for error in chain(exc):
        if isinstance(error, DatabaseLimitError):
            return DatabaseLimitError(message, error.remedy)
        if remedy := _LIMITS.get(getattr(error, "pgcode", None) or ""):
            return DatabaseLimitError(message, remedy)
    return DatabaseUnavailableError(message)


def first_line(exc: BaseException) -> str:
    """What an error says, without the statement and its values that SQLAlchemy adds."""
    return (str(exc.__cause__ or exc).strip().splitlines() or [type(exc).__name__])[0]
