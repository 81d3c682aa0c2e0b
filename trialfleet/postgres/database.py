"""One process's way to the shared PostgreSQL: engine, transactions, and waiting for it.

Every transaction carries the fence that it was opened with, and the database refuses its writes to
a trial once that fence is no longer the trial's lease. A transaction without a fence may write to
no leased trial at all.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
from sqlalchemy import URL, Connection, Engine, TextClause, create_engine, event
from sqlalchemy.exc import DisconnectionError

from trialfleet.errors import DatabaseUnavailableError
from trialfleet.postgres import calls  # with it, a bound for every wait of this process
from trialfleet.postgres.outages import is_momentary, is_outage
from trialfleet.postgres.refusals import translated_errors

# Seconds between two statements of a transaction that holds locks, after which the server ends it.
# A worker that is frozen there (a suspended machine, a cut network) would keep its locks, and with
# the study's lock or a lease's all others from claiming and reaping, until it wakes up or for ever.
# A transaction that only reads keeps nobody waiting, and Optuna may take minutes to read a history.
_LONGEST_SILENCE = 5.0
# A statement that only reads; `set_config` and the like are among them.
_READS = re.compile(
    r"\s*(SELECT|SHOW)\b(?!.*\bFOR\s+(NO\s+KEY\s+|KEY\s+)?(UPDATE|SHARE)\b)", re.I | re.S
)
_LIMITED = "fleet_silence_limited"
# Maximum pause between connection attempts, and maximum total wait, in seconds, for a server that
# says that it is about to accept connections.
_LONGEST_PAUSE, _PATIENCE = 5.0, 300.0
# The execution option of a connection, or of an engine, that holds a transaction's fence.
FENCE = "fleet_fence"


def engine_options(application: str) -> dict[str, Any]:
    """Arguments of `create_engine` for a process called `application` in `pg_stat_activity`."""
    return {
        # A worker needs one connection for its trial and one for its heartbeat, and many workers
        # share one server.
        "pool_size": 1,
        "max_overflow": 1,
        "connect_args": {
            "application_name": application,
            "client_encoding": "utf8",  # whatever PGCLIENTENCODING or the role has
            # A peer that vanished is noticed in half a minute, not in the two hours of the default.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
    }


class Postgres:
    """The engine of one process.

    Attributes:
        errors: Calls and transactions that failed because the database was away, restarting or
            full, or in a deadlock.

    Args:
        url: From `parse_url`.
        application: Shown in `pg_stat_activity`.
        pause: Called with the seconds to wait for a server that is not ready yet; may raise.

    Raises:
        DatabaseUnavailableError: It cannot be reached or refuses the login; the message says which.
    """

    def __init__(
        self, url: URL, *, application: str, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self.url = url
        self.application = application
        self.errors = 0
        self._pause = pause
        self.engine = create_engine(url, **engine_options(application))
        event.listen(self.engine, "begin", _prepare_transaction)
        event.listen(self.engine, "before_cursor_execute", _limit_silence, retval=True)
        event.listen(self.engine, "checkin", _note_use)
        event.listen(self.engine, "checkout", _refuse_dead)
        self._connect()

    def _connect(self) -> None:
        """Try once; wait only for a server that says itself that it will be there in a moment."""
        deadline, longest = time.monotonic() + _PATIENCE, 0.2
        while True:
            try:
                with translated_errors(self.url), self.engine.connect():
                    return
            except DatabaseUnavailableError as exc:
                if not is_momentary(exc) or time.monotonic() > deadline:
                    raise
                self._pause(random.uniform(0, longest))
                longest = min(2 * longest, _LONGEST_PAUSE)

    def fenced(self, fence: int | None) -> Engine:
        """This engine, all of whose transactions carry `fence`: the same pool of connections."""
        return self.engine.execution_options(**{FENCE: fence})

    @contextmanager
    def transaction(self, fence: int | None = None) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on an exception.

        Args:
            fence: Of the lease in whose name it writes; the database refuses its writes to any
                other leased trial.
        """
        with self._counting_errors(), self.fenced(fence).begin() as connection:
            yield connection

    @contextmanager
    def one_moment(self) -> Iterator[Connection]:
        """A transaction for reading: all its questions are answered as of its first one."""
        engine = self.engine.execution_options(isolation_level="REPEATABLE READ")
        with self._counting_errors(), engine.begin() as connection:
            yield connection

    def call(
        self,
        statement: TextClause,
        values: Mapping[str, Any] | None = None,
        *,
        fence: int | None = None,
        lock_seconds: float | None = None,
    ) -> Sequence[Any]:
        """Run one statement as a transaction of its own, in one round trip; its named tuples.

        Args:
            statement: Alone, or one that calls a function.
            values: Of its parameters.
            fence: As for `transaction`.
            lock_seconds: How long to wait for a lock at most; None as long as always.
        """
        with self._counting_errors():
            return calls.call(self.engine, statement, values, fence, lock_seconds=lock_seconds)

    @contextmanager
    def _counting_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            self.errors += is_outage(exc)
            raise

    def close_idle(self) -> None:
        """Close the connections that nobody is using; they are opened again when needed."""
        self.engine.dispose()

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _refuse_dead(connection: Any, record: Any, _proxy: Any) -> None:
    """Look whether a connection still lives that nobody has used for a while.

    SQLAlchemy's `pool_pre_ping` looks each time, which is up to three round trips of five.
    """
    now = time.monotonic()
    if now - record.info.get("used", now) > _LONGEST_SILENCE:
        try:
            connection.cursor().execute("SELECT 1")
            connection.rollback()
        except psycopg2.Error as exc:
            raise DisconnectionError from exc


def _prepare_transaction(connection: Connection) -> None:
    # Nothing outlives the transaction, so a transaction-pooling proxy between us and PostgreSQL
    # does no harm.
    fence = connection.get_execution_options().get(FENCE)
    connection.info[_LIMITED] = False
    connection.exec_driver_sql(calls.beginning(fence))


def _limit_silence(
    connection: Connection,
    _cursor: object,
    statement: str,
    parameters: Any,
    _context: object,
    _executemany: bool,
) -> tuple[str, Any]:
    """Begin a transaction's first statement that writes or locks with the limit of its silence."""
    if connection.info.get(_LIMITED) is not False or _READS.match(statement):
        return statement, parameters
    connection.info[_LIMITED] = True
    limit = f"SET LOCAL idle_in_transaction_session_timeout = '{_LONGEST_SILENCE:g}s'"
    return f"{limit}; {statement}", parameters
