"""`trialfleet coordinate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import (
    Changes,
    MetricsHost,
    MetricsPort,
    Notify,
)
from trialfleet.cli.commands.serve.fleet import keep_every_study
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def coordinate(
    file: Annotated[
        Path | None, typer.Argument(help="A study file (TOML).", metavar="STUDY.toml")
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Instead of one study: keep every open one, and those that come."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder to save the best agent in, at the end.")
    ] = None,
    stay: Annotated[
        bool,
        typer.Option(
            "--stay", help="Wait for SIGTERM after the end, or the failure, instead of ending."
        ),
    ] = False,
    changes: Changes = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    notify: Notify = None,
) -> None:
    """Create a study, or join it, and keep it going until it has ended.

    Workers started anywhere with `trialfleet worker` do the training. With --all, every study is
    kept going that `trialfleet submit` has stored or will store, until it is stopped.
    """
    from contextlib import ExitStack

    from coordinator import audit
    from coordinator.create import create_or_join
    from coordinator.dashboard.plots import attach_plots
    from coordinator.monitoring.around import monitored
    from coordinator.status import snapshot
    from coordinator.watch import failure, watch
    from trialfleet.cli.agent.save import save_model
    from trialfleet.cli.connect import database_url
    from trialfleet.cli.monitoring import with_options
    from trialfleet.cli.show.display import summary
    from trialfleet.cli.show.outcome import result_report, saved
    from trialfleet.errors import StudyFailedError, UsageError
    from trialfleet.escape import printable
    from trialfleet.postgres.retry import patiently
    from trialfleet.store import studies
    from trialfleet.store.schema import wait_for_schema
    from trialfleet.store.storage import Database
    from trialfleet.study.file import load
    from worker.stop import Stop, StopRequested

    if every:
        if file is not None or changes or stay:
            raise UsageError("--all goes with neither a study file nor --set or --stay")
        keep_every_study(out, metrics_port=metrics_port, metrics_host=metrics_host, notify=notify)
    if file is None:
        raise UsageError("give a study file, or --all")
    spec = load(file, changes or ())
    settings = with_options(
        load_settings(), metrics_port=metrics_port, metrics_host=metrics_host, notify=notify
    )
    stop = Stop()
    stop.install()
    try:
        with ExitStack() as opened:
            url = opened.enter_context(database_url(settings))
            database = Database(url, application="trialfleet-coordinator", pause=stop.wait)
            notices = opened.enter_context(
                monitored(database, spec.name, settings, say=console.say)
            )
            wait_for_schema(database, settings.migration_patience, pause=stop.wait)
            study = patiently(
                lambda: create_or_join(database, spec, artifacts=settings.artifacts),
                patience=settings.outage_patience,
                pause=stop.wait,
            )
            ended_before = study.stage == "done"
            if ended_before:
                console.say(f"study {study.name!r} has ended before; nothing is left to do")
            try:
                if study.stage == "failed":
                    raise failure(study)
                study = watch(
                    database, study.name, settings=settings, pause=stop.wait, notices=notices
                )
            except StudyFailedError as exc:
                if not stay:
                    raise
                # Its metrics go on saying so; a supervisor would start it again for nothing.
                console.say(f"trialfleet: {printable(str(exc))}")
                study = studies.read_again(database, study)
            console.out.print(summary(snapshot(database, study)), soft_wrap=True)
            if study.result is not None:
                path = save_model(database, study, out) if out is not None else None
                console.out.print(result_report(study, audit.read(database, study)))
                if path is not None:
                    console.out.print(saved(path), soft_wrap=True)
                if not ended_before:
                    attach_plots(database, study)
            database.close()
            while stay:
                stop.wait(3600.0)
    except StopRequested:
        console.say("coordinator stopped; the workers go on with their trials")
        raise typer.Exit(stop.exit_code) from None
