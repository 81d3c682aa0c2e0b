"""`trialfleet status --watch`: a study on the screen until it has ended."""

from __future__ import annotations

import typer
from rich.console import Console

from coordinator.status import snapshot
from coordinator.watch import failure
from trialfleet.cli.show.display import make_display, summary
from trialfleet.escape import printable
from trialfleet.postgres.retry import patiently
from trialfleet.settings import Settings
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.stop import Stop, StopRequested


def watch_study(database: Database, study: Study, *, settings: Settings, console: Console) -> None:
    """Redraw the study on a terminal, or print what happens elsewhere; changes nothing.

    Raises:
        StudyFailedError: It has ended without a winner.
        StudyNotFoundError: It was deleted.
        DatabaseUnavailableError: The database stayed away.
    """
    stop = Stop()
    stop.install()
    name, patience = study.name, settings.outage_patience
    display = make_display(console, database, study)
    draws = console.is_terminal and not console.is_dumb_terminal

    def look() -> Study:
        # Asked first, so that the last picture is of a study that has ended.
        found = studies.find(database, name)
        display.update()
        return found

    def stands(at: Study) -> None:
        """Say it in a line where no picture is drawn."""
        if not draws:
            line = summary(snapshot(database, at))
            console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    try:
        stands(study)
        while not (study := patiently(look, patience=patience, pause=stop.wait)).ended:
            stop.wait(settings.poll_seconds)
        stands(study)
    except StopRequested:
        raise typer.Exit(stop.exit_code) from None
    finally:
        display.close()
    if study.stage == "failed":
        raise failure(study)
