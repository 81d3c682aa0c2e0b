"""`trialfleet worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import AllowImport
from trialfleet.settings import load_settings


def worker(
    study: Annotated[
        str | None,
        typer.Argument(help="The study's name, or its file; left out, every study is served."),
    ] = None,
    lanes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help="Trials to train at once, each in a thread. Default: TRIALFLEET_LANES, or 1.",
        ),
    ] = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Stop when the parent process is gone.")
    ] = False,
    parent: Annotated[
        int | None, typer.Option(hidden=True, help="Descriptor that the parent process reads.")
    ] = None,
    allow_import: AllowImport = None,
) -> None:
    """Pull trials of a study and train them until the study has ended.

    Without a study it is a fleet's worker: it serves every study that there is, and those that
    come, by priority and fair share, until it is stopped. SIGTERM or Ctrl-C gives the current trial
    back at once, for another worker.

    With --lanes it is several workers in one process: on a GPU their trials are one program, on a
    CPU each takes a core.
    """
    from contextlib import ExitStack

    from trialfleet.parent import speak_to
    from trialfleet.processes import end_children_with_us, end_forks
    from worker.stop import Stop, StopRequested

    stop = Stop(with_parent=with_parent)
    stop.install()
    end_children_with_us()
    if parent is not None:
        speak_to(parent)
    from trialfleet.cli.connect import database_url
    from trialfleet.cli.extras import needs
    from trialfleet.cli.join import study_wanted, wait_for_study
    from trialfleet.postgres.retry import patiently
    from trialfleet.store.schema import wait_for_schema
    from trialfleet.store.storage import Database

    with needs("worker"):
        from worker.lanes import Lanes
        from worker.loop import Worker
        from worker.trainers.threads import use_one_thread

    settings = load_settings()
    if lanes is not None:
        settings = settings.model_copy(update={"lanes": lanes})
    wanted, spec = study_wanted(study)
    all_lanes = Lanes(stop)
    try:
        with database_url(settings) as url, ExitStack() as opened:

            def connect() -> Database:
                application = "trialfleet-worker"
                database = Database(url, application=application, pause=stop.wait)
                opened.callback(database.close)
                return database

            def join() -> None:
                name = wanted and wait_for_study(database, wanted, spec, patience, stop.wait)
                with needs("worker"):
                    use_one_thread()  # loads PyTorch, in seconds; whoever has no work needs none
                for number in range(len(all_lanes.workers), settings.lanes):
                    all_lanes.workers.append(
                        Worker(
                            connect() if number else database,
                            name,
                            settings=settings,
                            stop=stop,
                            on_stall=all_lanes.abandon,
                        )
                    )

            database, patience = connect(), settings.migration_patience
            wait_for_schema(database, patience, pause=stop.wait)
            patiently(join, patience=settings.outage_patience, pause=stop.wait)
            all_lanes.run()
    except StopRequested:
        raise typer.Exit(stop.exit_code) from None
    finally:
        end_forks()
