"""What a coordinator is to serve and to send: options of the command, else settings."""

from __future__ import annotations

from pydantic import SecretStr

from coordinator.monitoring.around import refuse_bad
from trialfleet.settings import Settings


def with_options(
    settings: Settings, *, metrics_port: int | None, metrics_host: str | None, notify: str | None
) -> Settings:
    """The settings, with the options that were given in their place.

    Raises:
        UsageError: What they ask for cannot be had.
    """
    given = {
        "metrics_port": metrics_port,
        "metrics_host": metrics_host,
        "notify": None if notify is None else SecretStr(notify),
    }
    update = {name: value for name, value in given.items() if value is not None}
    changed = settings.model_copy(update=update)
    refuse_bad(changed)
    return changed
