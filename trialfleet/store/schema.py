"""The schema: who makes it, and waiting until it is there. Workers never run DDL."""

from __future__ import annotations

import time
from collections.abc import Callable

from optuna.storages import RDBStorage
from sqlalchemy import URL, Connection, create_engine, text

from trialfleet.errors import DatabaseRefusedError, SchemaNotReadyError
from trialfleet.postgres.database import Postgres, engine_options
from trialfleet.postgres.refusals import translated_errors
from trialfleet.postgres.url import optuna_url
from trialfleet.postgres.waiting import REPLY_TIMEOUT, set_reply_timeout, wait_until
from trialfleet.store import tables

# Serialises migrators; any constant does, as long as it never changes.
_MIGRATION_LOCK = 0x7472_6961_6C66  # "trialf"


SETTINGS = text("""
    SELECT current_schema() AS schema, current_user AS role, current_database() AS database,
           current_setting('search_path') AS search_path,
           current_setting('transaction_read_only') = 'on' AS read_only,
           current_setting('server_encoding') AS encoding,
           to_regclass('public.trials') IS NOT NULL
               OR has_schema_privilege(to_regnamespace('public'), 'CREATE') AS in_public,
           to_regnamespace('fleet') IS NOT NULL
               OR has_database_privilege(current_database(), 'CREATE') AS in_database
""")


def create_schema(url: URL, upgrade: Callable[[Connection], None]) -> None:
    """Create or upgrade Optuna's tables, then ours with `upgrade`. Safe to run from many at once.

    The lock lives as long as the transaction, so a migrator that dies cannot keep it.

    Raises:
        DatabaseRefusedError: A right is missing or a setting is in the way; nothing was written.
        DatabaseUnavailableError: The database cannot be reached.
    """
    set_reply_timeout(None)  # other migrators, and large tables, take their time
    engine = create_engine(url, **engine_options("trialfleet-migrate"))
    try:
        with translated_errors(url), engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            # Optuna commits its tables by itself, so what can be refused is refused before.
            refuse_unusable(connection, to_migrate=True)
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
        DatabaseRefusedError: The database is set up in a way that Optuna cannot use.
    """

    def revision() -> str | None:
        with database.transaction() as connection:
            refuse_unusable(connection, to_migrate=False)
            return _revision(connection)

    if not wait_until(lambda: revision() == tables.REVISION, patience, sleep=pause):
        found = revision()
        state = f"is at revision {found}" if found else "is empty"
        raise SchemaNotReadyError(
            f"the database's schema {state}; this version needs revision {tables.REVISION}"
        )


def refuse_unusable(connection: Connection, *, to_migrate: bool) -> None:
    """Return if the database can be used as it is set up, before anything is written.

    Args:
        connection: In a transaction.
        to_migrate: Whether tables are to be made.

    Raises:
        DatabaseRefusedError: It cannot; the message names the right or the setting.
    """
    found = connection.execute(SETTINGS).one()
    # Optuna names its tables without their schema.
    if found.schema != "public":
        raise DatabaseRefusedError(
            f"search_path is {found.search_path!r}, which leads role {found.role!r} to the schema "
            f"{found.schema!r}; Optuna's tables are in 'public', so it must come first"
        )
    if found.encoding != "UTF8":
        raise DatabaseRefusedError(
            f"the encoding of database {found.database!r} is {found.encoding}, and must be UTF8; "
            "create one with ENCODING 'UTF8'"
        )
    if not to_migrate:
        return
    if found.read_only:
        raise DatabaseRefusedError(
            "transactions are read-only here: a standby, or default_transaction_read_only = on"
        )
    for granted, where in (
        (found.in_public, "SCHEMA public"),
        (found.in_database, f"DATABASE {found.database}"),
    ):
        if not granted:
            raise DatabaseRefusedError(
                f"role {found.role!r} may not CREATE in {where.lower()}; as its owner: "
                f"GRANT CREATE ON {where} TO {found.role}"
            )


def _revision(connection: Connection) -> str | None:
    if connection.scalar(text("SELECT to_regclass('fleet.alembic_version')")) is None:
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM fleet.alembic_version"))
    return revision
