"""`trialfleet best`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import AsJson, StudyName
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def best(
    study: StudyName = None,
    out: Annotated[Path | None, typer.Option(help="Folder to save the best agent in.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the final stage found, and save the best agent."""
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.show.display import result_report, saved
    from trialfleet.cli.show.model import save_model
    from trialfleet.errors import UsageError
    from trialfleet.store import studies

    with open_database(load_settings(), application="trialfleet-best") as database:
        chosen = studies.find(database, study) if study else studies.find_single(database)
        if chosen.result is None:
            raise UsageError(f"study {chosen.name!r} has no winner (it is at {chosen.stage!r})")
        path = save_model(database, chosen, out) if out else None
    if as_json:
        print(json.dumps(chosen.result, indent=2))
        return
    console.out.print(result_report(chosen))
    if path is not None:
        console.out.print(saved(path), soft_wrap=True)
