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
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Stop when the parent process is gone.")
    ] = False,
    allow_import: AllowImport = None,
) -> None:
    """Pull trials of a study and train them until the study has ended.

    Without a study it is a fleet's worker: it serves every study that there is, and those that
    come, by priority and fair share, until it is stopped. SIGTERM or Ctrl-C gives the current trial
    back at once, for another worker.
    """
    from worker.stop import Stop, StopRequested

    stop = Stop(with_parent=with_parent)
    stop.install()
    from trialfleet.cli.connect import database_url
    from trialfleet.cli.join import study_wanted, wait_for_study
    from trialfleet.postgres.retry import patiently
    from trialfleet.store.schema import wait_for_schema
    from trialfleet.store.storage import Database
    from worker.loop import Worker
    from worker.trainers.threads import use_one_thread

    settings = load_settings()
    wanted, spec = study_wanted(study)
    try:
        with database_url(settings) as url:
            database = Database(url, application="trialfleet-worker", pause=stop.wait)
            wait_for_schema(database, settings.migration_patience, pause=stop.wait)
            patience = settings.migration_patience

            def join() -> Worker:
                name = wanted and wait_for_study(database, wanted, spec, patience, stop.wait)
                use_one_thread()  # loads PyTorch, in seconds; whoever has no work needs none
                return Worker(database, name, settings=settings, stop=stop)

            patiently(join, patience=settings.outage_patience, pause=stop.wait).run()
            database.close()
    except StopRequested:
        raise typer.Exit(stop.exit_code) from None
