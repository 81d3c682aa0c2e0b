"""`trialfleet submit`."""

from __future__ import annotations

from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import Changes, StudyFile
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def submit(
    file: StudyFile,
    priority: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000,
            help="Its weight in the fleet. Default: the file's, else 1. Given for a study that "
            "exists, it changes its weight.",
        ),
    ] = None,
    changes: Changes = None,
) -> None:
    """Store a study for a fleet to run, and return.

    A fleet is `trialfleet coordinate --all` and any number of `trialfleet worker`.
    """
    from coordinator.create import create_or_join
    from trialfleet.cli.connect import open_database
    from trialfleet.store import studies
    from trialfleet.study.file import load

    spec = load(file, changes or ())
    settings = load_settings()
    if priority is not None:
        spec = spec.model_copy(update={"priority": priority})
    with open_database(settings, application="trialfleet-submit", create=True) as database:
        there = {study.search_id for study in studies.find_all(database)}
        study = create_or_join(database, spec, artifacts=settings.artifacts)
        if priority is not None:
            studies.set_priority(database, study, priority)
        study = studies.read_again(database, study)
    done = "is there already" if study.search_id in there else "submitted"
    console.out.print(
        f"{study.name}: {done}, {study.asked} trials, priority {study.priority}; "
        f"`trialfleet status {study.name}` shows how it goes",
        soft_wrap=True,
    )
