"""From settings and options to an open database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL

from trialfleet.errors import UsageError
from trialfleet.postgres.embedded import DATA, embedded_postgres
from trialfleet.postgres.url import parse_url
from trialfleet.settings import Settings
from trialfleet.store.schema import wait_for_schema
from trialfleet.store.storage import Database


@contextmanager
def database_url(settings: Settings, *, create: bool = False) -> Iterator[URL]:
    """The URL of the settings, else of the embedded server of the current folder.

    Args:
        settings: From the environment.
        create: Make the embedded server's data if there is none.

    Raises:
        UsageError: No URL is given, and there is no embedded server to take its place.
    """
    if settings.database_url is not None:
        yield parse_url(settings.database_url.get_secret_value())
    elif create or DATA.exists():
        with embedded_postgres() as url:
            yield parse_url(url)
    else:
        raise UsageError(
            "no database: set TRIALFLEET_DATABASE_URL, or work in a folder where `trialfleet run`, "
            f"`submit` or `import` with a study file has made one ({DATA})"
        )


@contextmanager
def open_database(
    settings: Settings, *, application: str, create: bool = False
) -> Iterator[Database]:
    """The database, its schema ready; closed at the end.

    Args:
        settings: From the environment.
        application: Shown in `pg_stat_activity`.
        create: Make the embedded server's data, its schema included, if no URL is given.
    """
    with database_url(settings, create=create) as url:
        if create and settings.database_url is None:
            from trialfleet.cli.schema import migrate

            migrate(url)
        database = Database(url, application=application)
        try:
            wait_for_schema(database, 0)
            yield database
        finally:
            database.close()
