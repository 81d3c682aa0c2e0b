"""`trialfleet delete`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import NamedStudy
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def delete(
    study: NamedStudy,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a study with its trials, final stages, checkpoints and models. Asks first.

    Workers and coordinators of it end, unless they serve others.
    """
    from trialfleet.cli.connect import open_database
    from trialfleet.errors import UsageError
    from trialfleet.store import studies
    from trialfleet.store.artifacts import owned
    from trialfleet.store.trials import reading

    with open_database(load_settings(), application="trialfleet-delete") as database:
        found = studies.find(database, study)
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError("there is nobody to ask: say --yes to delete the study")
            with database.transaction() as connection:
                trials = reading.count(connection, found.search_id).total
            what = f"{found.name} ({found.stage}, {trials} trials) with its models"
            if not typer.confirm(f"Delete {what} for good?", err=True):
                console.say("nothing was deleted")
                return
        database.optuna_storage().delete_study(found.search_id)
        # What lies in the database has gone along; the bytes in other stores go now.
        owned.sweep(database)
    console.out.print(f"{found.name}: deleted", soft_wrap=True)
