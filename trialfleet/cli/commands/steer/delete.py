"""`trialfleet delete`."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import NamedStudy
from trialfleet.cli.show import console
from trialfleet.settings import load_settings

_SWEEP = 60.0  # seconds for removing what lies in other stores than the database
_SILENCE = 2.0  # seconds between two lines about how far it is


def delete(
    study: NamedStudy,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a study with its trials, final stages, checkpoints and models. Asks first.

    Workers and coordinators of it end, unless they serve others. Interrupted, it deletes nothing.
    """
    from trialfleet.cli.connect import open_database
    from trialfleet.errors import UsageError
    from trialfleet.store import studies
    from trialfleet.store.artifacts import owned
    from trialfleet.store.trials import reading

    with open_database(load_settings(), application="trialfleet-delete") as database:
        found = studies.find(database, study)
        with database.transaction() as connection:
            trials = reading.count(connection, found.search_id).total
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError("there is nobody to ask: say --yes to delete the study")
            what = f"{found.name} ({found.stage}, {trials} trials) with its models"
            if not typer.confirm(f"Delete {what} for good?", err=True):
                console.say("nothing was deleted")
                return
        told = time.monotonic()

        def tell(deleted: int) -> None:
            nonlocal told
            if time.monotonic() - told >= _SILENCE:
                told = time.monotonic()
                console.say(f"{found.name}: {deleted:,} of {trials:,} trials deleted")

        database.optuna_storage().delete_study(found.search_id, progress=tell)
        # What lies in the database has gone along; the bytes in other stores go now.
        left = owned.sweep(database, seconds=_SWEEP)
    console.out.print(f"{found.name}: deleted", soft_wrap=True)
    if left:
        console.say(f"{left:,} artifacts are left in their store, for a coordinator to remove")
