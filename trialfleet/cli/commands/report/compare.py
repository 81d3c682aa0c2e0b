"""`trialfleet compare`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import AsJson
from trialfleet.cli.show import console
from trialfleet.errors import UsageError
from trialfleet.settings import load_settings


def compare(
    names: Annotated[
        list[str], typer.Argument(help="Studies that are done, two or more.", metavar="A B …")
    ],
    as_json: AsJson = False,
) -> None:
    """Compare the winners of studies on their fresh seeds, each with every other.

    Ends with 0 whatever the answer is; --json has it as `told_apart`.
    """
    from coordinator.report.comparison import compare_studies
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.show.comparison import table
    from trialfleet.store import studies

    if len(names) < 2:
        raise UsageError(f"{names[0]!r} has nothing to be compared with; name two studies or more")
    with open_database(load_settings(), application="trialfleet-compare") as database:
        found = [studies.find(database, name) for name in names]
    comparison = compare_studies(*found)
    if as_json:
        print(json.dumps(comparison.as_dict(), indent=2))
    else:
        console.out.print(table(comparison))
