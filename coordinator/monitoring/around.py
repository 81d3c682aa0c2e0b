"""What a coordinator's settings ask for, open while it runs and closed with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from coordinator.exposure import address, warning
from coordinator.monitoring.notices import Notices
from coordinator.monitoring.server import MetricsServer
from coordinator.monitoring.webhook import Webhook, split_url
from trialfleet.errors import UsageError
from trialfleet.settings import Settings
from trialfleet.store.storage import Database


def refuse_bad(settings: Settings) -> None:
    """Return if what the settings ask for can be had, as far as that shows before it is opened.

    Raises:
        UsageError: The webhook's URL is none, or the extra for the metrics is not installed.
    """
    if url := _webhook(settings):
        split_url(url)
    if settings.metrics_port is not None:
        try:
            import prometheus_client  # noqa: F401
        except ImportError as exc:
            raise UsageError(
                'prometheus-client is missing: pip install "trialfleet[metrics]"'
            ) from exc


@contextmanager
def monitored(
    database: Database, study: str, settings: Settings, *, say: Callable[[str], object]
) -> Iterator[Notices | None]:
    """Serve metrics and send notices while inside, each if it is asked for.

    Args:
        database: The coordinator's.
        study: Its study's name; it need not exist yet.
        settings: `metrics_host`, `metrics_port` and `notify`.
        say: Called with a line for the user.

    Yields:
        What tells the notices.

    Raises:
        UsageError: The port cannot be had.
    """
    with monitored_fleet(database, settings, say=say, study=study) as make_notices:
        yield make_notices() if make_notices is not None else None


@contextmanager
def monitored_fleet(
    database: Database,
    settings: Settings,
    *,
    say: Callable[[str], object],
    study: str | None = None,
) -> Iterator[Callable[[], Notices] | None]:
    """As `monitored`, for every study, or for the one that is named.

    Yields:
        What makes the notices of one study; all go to one webhook.

    Raises:
        UsageError: The port cannot be had.
    """
    with ExitStack() as opened:
        make_notices = None
        if url := _webhook(settings):
            webhook = Webhook(url)
            opened.callback(webhook.close)

            def make_notices() -> Notices:
                return Notices(database, webhook.send)

        if settings.metrics_port is not None:
            server = MetricsServer(
                database.url,
                study,
                host=settings.metrics_host,
                port=settings.metrics_port,
                errors=lambda: database.errors,
            )
            opened.callback(server.close)
            if told := warning(server.host, server.port, "sees the study's figures"):
                say(told)
            say(f"metrics: {address(server.host, server.port)}metrics")
        yield make_notices


def _webhook(settings: Settings) -> str:
    """The URL, or nothing: a setting that a compose file passes on may be empty."""
    return "" if settings.notify is None else settings.notify.get_secret_value()
