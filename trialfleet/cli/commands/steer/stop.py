"""`trialfleet stop`."""

from __future__ import annotations

from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import NamedStudy
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def stop(
    study: NamedStudy,
    now: Annotated[
        bool,
        typer.Option("--now", help="End the trials under way, too, instead of waiting for them."),
    ] = False,
    reason: Annotated[
        str, typer.Option(help="Why, for `status`, the report and notices.")
    ] = "by `trialfleet stop`",
) -> None:
    """End a study's search before its budget is spent, and go on to its final stage.

    Trials under way run to their end first; enqueued ones that nobody has begun do not run.
    """
    from trialfleet.cli.connect import open_database
    from trialfleet.escape import storable
    from trialfleet.store import studies
    from trialfleet.store.steering import course
    from trialfleet.store.trials import reading

    with open_database(load_settings(), application="trialfleet-stop") as database:
        found = course.stop(database, studies.find(database, study), storable(reason), now=now)
        with database.transaction() as connection:
            counts = reading.count(connection, found.search_id)
    ended, pending = counts.counted - found.imported, counts.pending
    told = f"{ended} {_trials(ended)}"
    if pending:
        told += f" and {pending} under way, which {'runs' if pending == 1 else 'run'} to the end"
    comes = "the final stage comes next"
    if not pending and counts.complete == found.imported:
        comes = (
            "none is complete, so the study fails;"
            f" `trialfleet extend {found.name} --trials N` gives it more"
        )
    console.out.print(f"{found.name}: the search ends with {told}; {comes}", soft_wrap=True)


def _trials(count: int) -> str:
    return "trial" if count == 1 else "trials"
