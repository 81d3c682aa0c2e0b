"""`trialfleet run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import (
    AllowImport,
    Changes,
    MetricsHost,
    MetricsPort,
    Notify,
    StudyFile,
)
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def run(
    file: StudyFile,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Worker processes. Default: one per core."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the saved agent.")] = Path("models"),
    changes: Changes = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    notify: Notify = None,
    allow_import: AllowImport = None,
) -> None:
    """Run a whole study on this machine: database, coordinator and workers.

    Ctrl-C stops it cleanly; the same command goes on where it was.
    """
    from trialfleet.cli.check import load_checked
    from trialfleet.cli.local.pool import default_workers
    from trialfleet.cli.local.run import run_study
    from trialfleet.cli.monitoring import with_options
    from worker.stop import Stop, StopRequested

    spec, _ = load_checked(file, changes or ())
    settings = with_options(
        load_settings(), metrics_port=metrics_port, metrics_host=metrics_host, notify=notify
    )
    stop = Stop()
    stop.install()
    try:
        run_study(
            spec,
            workers=workers or default_workers(),
            out=out,
            settings=settings,
            console=console.out,
            stop=stop,
        )
    except StopRequested:
        console.say("stopped; run the same command again to go on where it was")
        raise typer.Exit(stop.exit_code) from None
