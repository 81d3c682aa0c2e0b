"""`trialfleet coordinate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import StudyFile
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def coordinate(
    file: StudyFile,
    out: Annotated[
        Path | None, typer.Option(help="Folder to save the best agent in, at the end.")
    ] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Wait for SIGTERM after the end, instead of ending.")
    ] = False,
) -> None:
    """Create a study, or join it, and keep it going until it has ended.

    Workers started anywhere with `trialfleet worker` do the training.
    """
    from coordinator import audit
    from coordinator.create import create_or_join
    from coordinator.status import snapshot
    from coordinator.watch import failure, watch
    from trialfleet.cli.agent.save import save_model
    from trialfleet.cli.connect import database_url
    from trialfleet.cli.show.display import result_report, saved, summary
    from trialfleet.postgres.retry import patiently
    from trialfleet.store.schema import wait_for_schema
    from trialfleet.store.storage import Database
    from trialfleet.study.file import load
    from worker.stop import Stop, StopRequested

    spec = load(file)
    settings = load_settings()
    stop = Stop()
    stop.install()
    try:
        with database_url(settings) as url:
            database = Database(url, application="trialfleet-coordinator", pause=stop.wait)
            wait_for_schema(database, settings.migration_patience, pause=stop.wait)
            study = patiently(
                lambda: create_or_join(database, spec, artifacts=settings.artifacts),
                patience=settings.outage_patience,
                pause=stop.wait,
            )
            if study.stage == "failed":
                raise failure(study)
            if study.stage == "done":
                console.say(f"study {study.name!r} has ended before; nothing is left to do")
            study = watch(database, study.name, settings=settings, pause=stop.wait)
            console.out.print(summary(snapshot(database, study)), soft_wrap=True)
            if study.result is not None:
                path = save_model(database, study, out) if out is not None else None
                console.out.print(result_report(study, audit.read(database, study)))
                if path is not None:
                    console.out.print(saved(path), soft_wrap=True)
            database.close()
            while stay:
                stop.wait(3600.0)
    except StopRequested:
        console.say("coordinator stopped; the workers go on with their trials")
        raise typer.Exit(stop.exit_code) from None
