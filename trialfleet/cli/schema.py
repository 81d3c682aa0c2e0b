"""The one place that creates or upgrades the schema, and makes the services' logins."""

from __future__ import annotations

from sqlalchemy import URL, Connection

from migrations.migrate import upgrade
from migrations.roles import Login, Role, grant
from trialfleet.postgres.url import parse_url
from trialfleet.settings import Settings
from trialfleet.store.schema import create_schema


def migrate(url: URL, logins: list[Login] | None = None) -> None:
    """Bring Optuna's tables and ours up to date, and the rights of the logins, if there are any."""

    def bring_up_to_date(connection: Connection) -> None:
        upgrade(connection)
        grant(connection, logins or [])

    create_schema(url, bring_up_to_date)


def service_logins(settings: Settings) -> list[Login]:
    """The logins whose URLs the settings name.

    Raises:
        UsageError: One of them is no PostgreSQL URL.
    """
    dashboard: Role = "writing dashboard" if settings.dashboard_writable else "dashboard"
    given = {
        "coordinator": settings.coordinator_url,
        "worker": settings.worker_url,
        dashboard: settings.dashboard_url,
    }
    logins = []
    for role, secret in given.items():
        parsed = parse_url(secret.get_secret_value()) if secret is not None else None
        if parsed is not None and parsed.username:
            logins.append(Login(role=role, name=parsed.username, password=parsed.password))  # type: ignore[arg-type]
    return logins
