"""`trialfleet status`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import AsJson, StudyName
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def status(
    study: StudyName = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on showing it until the study has ended.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show where the studies stand, or one of them in detail.

    With --json: an object for the study that is named, a list of them if none is.
    """
    from dataclasses import asdict

    from coordinator import audit
    from coordinator.status import as_dict, snapshot
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.show.display import summary
    from trialfleet.cli.show.picture import picture
    from trialfleet.cli.watch import watch_study
    from trialfleet.errors import UsageError
    from trialfleet.store import studies, workers

    settings = load_settings()
    if watch and as_json:
        raise UsageError("--watch is for people and --json for programs; give one of them")
    with open_database(settings, application="trialfleet-status") as database:
        if watch:
            one = studies.find(database, study) if study else studies.find_single(database)
            watch_study(database, one, settings=settings, console=console.out)
            return
        chosen = [studies.find(database, study)] if study else studies.find_all(database)
        # One study that this version cannot read does not hide the others.
        shots = {
            each.name: snapshot(database, each) for each in chosen if study or not each.unreadable
        }
        with database.transaction() as connection:
            idle = len(workers.live(connection, ""))
        audits = {each.name: audit.read(database, each) for each in chosen if each.name in shots}
    if as_json:
        looks = [
            as_dict(shots[each.name])
            | ({"audit": asdict(found)} if (found := audits[each.name]) else {})
            if each.name in shots
            else {"study": each.name, "stage": each.stage, "unreadable": each.unreadable}
            for each in chosen
        ]
        print(json.dumps(looks[0] if study else looks, indent=2))
    elif not chosen:
        console.out.print("no studies yet; create one with `trialfleet run STUDY.toml`")
    elif len(chosen) == 1 and shots:
        console.out.print(picture(shots[chosen[0].name]))
        if found := audits[chosen[0].name]:
            console.out.print(found.text, soft_wrap=True)
    else:
        for each in chosen:
            line = summary(shots[each.name]) if each.name in shots else each.unreadable
            console.out.print(f"{each.stage:7} {line}", soft_wrap=True)
    if idle and not study and not as_json:
        console.out.print(f"idle workers of the fleet: {idle}")
