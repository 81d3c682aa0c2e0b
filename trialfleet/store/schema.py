"""The schema: who makes it, and waiting until it is there. Workers never run DDL."""

from __future__ import annotations

import time
from collections.abc import Callable

from optuna.storages import RDBStorage
from sqlalchemy import URL, Connection, create_engine, text

from trialfleet.errors import SchemaNotReadyError
from trialfleet.postgres.database import Postgres, engine_options
from trialfleet.postgres.refusals import translated_errors
from trialfleet.postgres.url import optuna_url
from trialfleet.postgres.waiting import REPLY_TIMEOUT, set_reply_timeout, wait_until
from trialfleet.store import tables

# Serialises migrators; any constant does, as long as it never changes.
_MIGRATION_LOCK = 0x7472_6961_6C66  # "trialf"


def create_schema(url: URL, upgrade: Callable[[Connection], None]) -> None:
    """Create or upgrade Optuna's tables, then ours with `upgrade`. Safe to run from many at once.

    The lock lives as long as the transaction, so a migrator that dies cannot keep it.
    """
    set_reply_timeout(None)  # other migrators, and large tables, take their time
    engine = create_engine(url, **engine_options("trialfleet-migrate"))
    try:
        with translated_errors(url), engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            storage = RDBStorage(
                optuna_url(url),
                engine_kwargs=engine_options("trialfleet-migrate"),
                skip_compatibility_check=True,
            )
            if storage.get_current_version() != storage.get_head_version():
                storage.upgrade()
            storage.engine.dispose()
            upgrade(connection)
    finally:
        engine.dispose()
        set_reply_timeout(REPLY_TIMEOUT)


def wait_for_schema(
    database: Postgres, patience: float, *, pause: Callable[[float], object] = time.sleep
) -> None:
    """Return once the migrator has done its work.

    Args:
        database: Opened.
        patience: Seconds to wait for it.
        pause: Called with the seconds between two looks; may raise to end the waiting.

    Raises:
        SchemaNotReadyError: It has not in time.
    """

    def revision() -> str | None:
        with database.transaction() as connection:
            return _revision(connection)

    if not wait_until(lambda: revision() == tables.REVISION, patience, sleep=pause):
        found = revision()
        state = f"is at revision {found}" if found else "is empty"
        raise SchemaNotReadyError(
            f"the database's schema {state}; this version needs revision {tables.REVISION}"
        )


def _revision(connection: Connection) -> str | None:
    if connection.scalar(text("SELECT to_regclass('fleet.alembic_version')")) is None:
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM fleet.alembic_version"))
    return revision
