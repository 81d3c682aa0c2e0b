"""`trialfleet status`."""

from __future__ import annotations

import json

from trialfleet.cli.commands.arguments import AsJson, StudyName
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def status(study: StudyName = None, as_json: AsJson = False) -> None:
    """Show where the studies stand, or one of them in detail."""
    from coordinator.status import as_dict, snapshot
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.show.display import picture, summary
    from trialfleet.store import studies

    with open_database(load_settings(), application="trialfleet-status") as database:
        chosen = [studies.find(database, study)] if study else studies.every(database)
        shots = [snapshot(database, each) for each in chosen]
    if as_json:
        print(json.dumps([as_dict(shot) for shot in shots], indent=2))
    elif not shots:
        console.out.print("no studies yet; create one with `trialfleet run STUDY.toml`")
    elif len(shots) == 1:
        console.out.print(picture(shots[0]))
    else:
        for shot in shots:
            console.out.print(f"{shot.study.stage:7} {summary(shot)}", soft_wrap=True)
