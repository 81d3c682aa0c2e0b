"""How long this process waits for PostgreSQL: a network that stalls sends no error."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

import psycopg2
from psycopg2 import extensions

REPLY_TIMEOUT = 15.0  # seconds; a worker whose leases are short waits for less
# Seconds to wait for a reply before the connection is given up; None for ever. Of the process,
# because psycopg2's wait callback is.
_reply_timeout: float | None = REPLY_TIMEOUT


def set_reply_timeout(seconds: float | None) -> None:
    """Bound every wait for PostgreSQL in this process."""
    global _reply_timeout
    _reply_timeout = seconds


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
        if _reply_timeout is not None:
            left = started + _reply_timeout - time.monotonic()
            if left <= 0:
                raise psycopg2.OperationalError(f"no reply within {_reply_timeout:g} seconds")
        reading = [connection.fileno()] if state == extensions.POLL_READ else []
        writing = [connection.fileno()] if state == extensions.POLL_WRITE else []
        select.select(reading, writing, [], left)


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
