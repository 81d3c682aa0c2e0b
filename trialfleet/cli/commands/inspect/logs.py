"""`trialfleet logs`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import AsJson
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def logs(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    number: Annotated[int, typer.Argument(min=0, help="The trial's number.")],
    final: Annotated[
        bool, typer.Option("--final", help="A trial of the final stage instead of the search.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what became of a trial: its attempts, why it failed or was pruned, its traceback."""
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.show.trial import trial_as_dict, trial_report
    from trialfleet.errors import UsageError
    from trialfleet.store import studies
    from trialfleet.store.trials import reading
    from trialfleet.store.trials.record import read_record

    with open_database(load_settings(), application="trialfleet-logs") as database:
        found = studies.find(database, study)
        name, study_id = found.name, found.search_id
        if final:
            if found.final_id is None:
                raise UsageError(f"study {study!r} has no final stage yet")
            name, study_id = found.final_name, found.final_id
        with database.one_moment() as connection:
            record = read_record(connection, study_id, number)
            there = reading.count(connection, study_id).total
    if record is None:
        known = f"it has 0 to {there - 1}" if there else "it has none yet"
        raise UsageError(f"study {name!r} has no trial {number}; {known}")
    if as_json:
        print(json.dumps(trial_as_dict(name, record), indent=2))
    else:
        console.out.print(trial_report(name, record), soft_wrap=True)
