"""Bring our schema to a revision. Run by `trialfleet migrate`, and by nobody else."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from trialfleet.store import tables


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Upgrade inside the caller's transaction, so that a failed migration leaves nothing."""
    # Alembic keeps its version table in our schema, so the schema comes before the first migration.
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {tables.SCHEMA}"))
    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str = "base") -> None:
    """Downgrade inside the caller's transaction; at `base` nothing of ours is left."""
    command.downgrade(_config(connection), revision)
    if revision == "base":
        connection.execute(text(f"DROP SCHEMA {tables.SCHEMA} CASCADE"))
