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

_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]
# In front of a statement, in the same message: two statements in one message are one transaction.
_UNDER_FENCE = "SELECT set_config('fleet.fence', %(fleet_fence)s, true); "


def call(
    engine: Engine, statement: TextClause, values: Mapping[str, Any] | None, fence: int | None
) -> Sequence[Any]:
    """Run `statement`; its rows, as named tuples.

    Raises:
        sqlalchemy.exc.DBAPIError: As SQLAlchemy would raise it.
    """
    sql, parameters = _sql(statement), values or {}
    if fence is not None:
        sql, parameters = _UNDER_FENCE + sql, {**parameters, "fleet_fence": str(fence)}
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


@cache
def _sql(statement: TextClause) -> str:
    """The statement with the driver's placeholders."""
    return str(statement.compile(dialect=_DIALECT))
