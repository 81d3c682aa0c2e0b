"""`trialfleet extend`."""

from __future__ import annotations

from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import NamedStudy
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def extend(
    study: NamedStudy,
    trials: Annotated[
        int,
        typer.Option(
            min=1, max=1_000_000, help="Trials that count in all, those included that it has."
        ),
    ],
) -> None:
    """Give a study more trials, whether it runs, was stopped, or has ended.

    One that has ended goes back to its search, and has its final stage anew, on other fresh seeds.
    The final stage that it had stays as NAME.final.1. Stop rules no longer hold for a study that
    was stopped.
    """
    from trialfleet.cli.connect import open_database
    from trialfleet.store import studies
    from trialfleet.store.steering import course

    with open_database(load_settings(), application="trialfleet-extend") as database:
        before = studies.find(database, study)
        found = course.extend(database, before, trials)
    told = f"{found.name}: {found.asked} trials in all"
    if before.stage != "search":
        told += (
            f"; it is back at its search, so start a coordinator and workers if {study} has none"
        )
    console.out.print(told, soft_wrap=True)
