"""How long this process waits for PostgreSQL: a network that stalls sends no error."""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import extensions

REPLY_TIMEOUT = 15.0  # seconds; a worker whose leases are short waits for less
# Shares of it after which the server itself gives up: it does not notice that a client has gone
# while it waits for a lock or computes. A process that closed its socket there would leave one of
# the server's behind, and its next try another.
_LOCK, _STATEMENT = 0.4, 0.9
# Seconds to wait for a lock at most. Ours are held for milliseconds; while somebody else holds one
# for longer, others are served, and a stop is heard.
_LONGEST_LOCK = 3.0
# Seconds to wait for a reply before the connection is given up; None for ever. Of the process,
# because psycopg2's wait callback is.
_reply_timeout: float | None = REPLY_TIMEOUT
_thread = threading.local()


def set_reply_timeout(seconds: float | None) -> None:
    """Bound every wait for PostgreSQL in this process."""
    global _reply_timeout
    _reply_timeout = seconds


@contextmanager
def unhurried() -> Iterator[None]:
    """Inside, this thread waits for replies as long as they take, but not for locks."""
    _thread.unhurried = True
    try:
        yield
    finally:
        _thread.unhurried = False


def reply_timeout() -> float | None:
    """How many seconds this thread waits for a reply; None for ever."""
    return None if getattr(_thread, "unhurried", False) else _reply_timeout


def server_limits(*, lock_seconds: float | None = None) -> str:
    """What a transaction of this thread begins with, so that the server gives up before we do.

    The limits end with the transaction, so a transaction-pooling proxy does no harm, and hold
    whatever the role has set.

    Args:
        lock_seconds: How long to wait for a lock at most; None as long as always.
    """
    if lock_seconds is None and _reply_timeout is not None:
        lock_seconds = min(_LONGEST_LOCK, _LOCK * _reply_timeout)
    reply = reply_timeout()
    return (
        f"set_config('lock_timeout', '{_milliseconds(lock_seconds)}', true),"
        f" set_config('statement_timeout', '{_milliseconds(reply and _STATEMENT * reply)}', true)"
    )


def _milliseconds(seconds: float | None) -> int:
    """As PostgreSQL takes them: 0 for no limit."""
    return 0 if seconds is None else max(1, round(1e3 * seconds))


def _wait(connection: Any) -> None:
    """Wait as psycopg2 would, but not for ever.

    Raises:
        psycopg2.OperationalError: No reply in time; psycopg2 then closes the connection.
    """
    started = time.monotonic()
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        left = None
        if (limit := reply_timeout()) is not None:
            left = started + limit - time.monotonic()
            if left <= 0:
                raise psycopg2.OperationalError(f"no reply within {limit:g} seconds")
        # Not `select`, which takes no descriptor above 1,023.
        waiting = select.poll()
        reading = state == extensions.POLL_READ
        waiting.register(connection.fileno(), select.POLLIN if reading else select.POLLOUT)
        waiting.poll(None if left is None else math.ceil(1000 * left))


extensions.set_wait_callback(_wait)


def wait_until(
    condition: Callable[[], bool],
    patience: float,
    *,
    pause: float = 0.2,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Poll `condition` until it holds or `patience` seconds have passed; the last answer."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() >= deadline:
            return False
        sleep(pause)
    return True
