"""One statement as a transaction of its own, in one round trip, by the driver alone.

A statement through SQLAlchemy's `Connection` costs the client half a millisecond, as much as the
server takes for most of ours, and a worker sends one at every evaluation. So the hot ones take a
connection from the engine's pool and hand the statement to psycopg2 themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import psycopg2
from psycopg2.extras import NamedTupleCursor
from sqlalchemy import Engine, TextClause
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.exc import DBAPIError

from trialfleet.postgres.waiting import server_limits

_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]


def call(
    engine: Engine,
    statement: TextClause,
    values: Mapping[str, Any] | None,
    fence: int | None,
    *,
    lock_seconds: float | None = None,
) -> Sequence[Any]:
    """Run `statement`; its rows, as named tuples.

    Args:
        engine: Whose connection to take.
        statement: Alone.
        values: Of its parameters.
        fence: As `Postgres.transaction` has it.
        lock_seconds: How long to wait for a lock at most; None as long as always.

    Raises:
        sqlalchemy.exc.DBAPIError: As SQLAlchemy would raise it.
    """
    # In the same message: two statements in one message are one transaction.
    sql, parameters = f"{beginning(fence, lock_seconds)}; {_sql(statement)}", values or {}
    pooled = engine.raw_connection()
    connection: Any = pooled.driver_connection
    try:
        # Without it the driver would send a BEGIN, and we a COMMIT, each a round trip.
        connection.autocommit = True
        with connection.cursor(cursor_factory=NamedTupleCursor) as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []
    except psycopg2.Error as exc:
        gone = bool(engine.dialect.is_disconnect(exc, connection, None))  # type: ignore[arg-type]
        if gone:
            engine.dispose()  # those that wait in the pool have died of the same
        raise DBAPIError.instance(
            sql,
            None,  # an error's text shows no values
            exc,
            psycopg2.Error,
            connection_invalidated=gone,
            dialect=engine.dialect,
        ) from exc
    finally:
        if connection.closed:
            # Lost, or closed by the driver because the wait for its reply was interrupted. The pool
            # would try a rollback on it and print the traceback of that.
            pooled.invalidate()
        else:
            connection.autocommit = False
            pooled.close()


def beginning(fence: int | None, lock_seconds: float | None = None) -> str:
    """The statement that each of our transactions begins with."""
    held = "" if fence is None else f"{fence:d}"
    limits = server_limits(lock_seconds=lock_seconds)
    return f"SELECT set_config('fleet.fence', '{held}', true), {limits}"


@cache
def _sql(statement: TextClause) -> str:
    """The statement with the driver's placeholders."""
    return str(statement.compile(dialect=_DIALECT))
