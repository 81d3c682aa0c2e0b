"""`trialfleet compare`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import AsJson
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def compare(
    first: Annotated[str, typer.Argument(help="A study that is done.", metavar="A")],
    second: Annotated[str, typer.Argument(help="Another one.", metavar="B")],
    as_json: AsJson = False,
) -> None:
    """Compare the winners of two studies on their fresh seeds.

    Ends with 0 whatever the answer is; --json has it as `told_apart`.
    """
    from coordinator.report.comparison import compare_studies
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.show.comparison import table
    from trialfleet.store import studies

    with open_database(load_settings(), application="trialfleet-compare") as database:
        found = [studies.find(database, name) for name in (first, second)]
    comparison = compare_studies(*found)
    if as_json:
        print(json.dumps(comparison.as_dict(), indent=2))
    else:
        console.out.print(table(comparison))
