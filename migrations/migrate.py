"""Bring our schema to a revision. Run by `trialfleet migrate`, and by nobody else.

Tables change by the migrations in `versions`. Functions and triggers have one text, today's, in
`functions`; a migrator whose text differs from what it finds replaces all of them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from trialfleet.errors import DatabaseRefusedError
from trialfleet.store import tables

FUNCTIONS = tuple(sorted((Path(__file__).parent / "functions").glob("*.sql")))
# Of the functions that the schema has, as its comment.
_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in FUNCTIONS)).hexdigest()

# Their triggers go along.
_DROP_FUNCTIONS = text("""
    SELECT format('DROP FUNCTION %s CASCADE', oid::regprocedure) FROM pg_proc
    WHERE pronamespace = to_regnamespace('fleet')
""")
_COMMENT = text("SELECT obj_description(to_regnamespace('fleet'), 'pg_namespace')")


def upgrade(connection: Connection) -> None:
    """Upgrade inside the caller's transaction, so that a failed migration leaves nothing.

    Raises:
        DatabaseRefusedError: The schema is of a version that this one does not know.
    """
    # Alembic keeps its version table in our schema, so the schema comes before the first migration.
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {tables.SCHEMA}"))
    found = _revision(connection)
    scripts = ScriptDirectory.from_config(_config())
    if found not in (None, *(script.revision for script in scripts.walk_revisions())):
        raise DatabaseRefusedError(
            f"the database's schema is at revision {found}, which version"
            f" {tables.REVISION} does not know: use the version that made it, or another database"
        )
    # Nothing is replaced that is the same: that would lock the tables of those who work.
    if found == tables.REVISION and connection.scalar(_COMMENT) == _DIGEST:
        return
    _drop_functions(connection)
    command.upgrade(_config(connection), "head")
    _drop_functions(connection)  # those that the first release made in its migration
    for path in FUNCTIONS:
        connection.exec_driver_sql(
            path.read_text(encoding="utf-8"), execution_options={"no_parameters": True}
        )
    connection.exec_driver_sql(f"COMMENT ON SCHEMA {tables.SCHEMA} IS '{_DIGEST}'")


def downgrade(connection: Connection, revision: str = "base") -> None:
    """Downgrade inside the caller's transaction; at `base` nothing of ours is left."""
    _drop_functions(connection)
    command.downgrade(_config(connection), revision)
    if revision == "base":
        connection.execute(text(f"DROP SCHEMA {tables.SCHEMA} CASCADE"))


def _drop_functions(connection: Connection) -> None:
    for statement in connection.scalars(_DROP_FUNCTIONS).all():
        connection.exec_driver_sql(statement)


def _revision(connection: Connection) -> str | None:
    options = {"version_table_schema": tables.SCHEMA}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
