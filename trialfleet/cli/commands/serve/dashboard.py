"""`trialfleet dashboard`."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import Expose
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def dashboard(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
    expose: Expose = False,
) -> None:
    """Serve optuna-dashboard, with the artifacts. It has no authentication.

    It changes nothing unless TRIALFLEET_DASHBOARD_WRITABLE=1.
    """
    from coordinator.dashboard.server import make_dashboard
    from coordinator.exposure import address, refuse_unexpected, warning
    from trialfleet.artifacts.stores import open_store
    from trialfleet.cli.connect import open_database
    from worker.stop import Stop, StopRequested

    settings = load_settings()
    can = "changes and deletes studies" if settings.dashboard_writable else "sees every study"
    refuse_unexpected(host, expose=expose, what=can)
    stop = Stop()
    stop.install()
    with open_database(settings, application="trialfleet-dashboard") as database:
        server = make_dashboard(
            database,
            open_store(settings.artifacts, database),
            host=host,
            port=port,
            writable=settings.dashboard_writable,
        )
        if told := warning(host, server.server_port, can):
            console.say(told)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        console.say(f"dashboard: {address(host, server.server_port)}")
        try:
            while True:
                stop.wait(3600.0)
        except StopRequested:
            server.shutdown()
    raise typer.Exit(stop.exit_code)
