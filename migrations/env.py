"""Alembic's entry: our schema only, on the connection that the migrator hands over."""

from __future__ import annotations

from alembic import context

from trialfleet.store import tables


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """Keep Optuna's tables, which live in `public`, out of every comparison."""
    return name == tables.SCHEMA if kind == "schema" else True


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    version_table_schema=tables.SCHEMA,
    include_schemas=True,
    include_name=include_name,
)
with context.begin_transaction():
    context.run_migrations()
