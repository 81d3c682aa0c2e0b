"""`trialfleet plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trialfleet.cli.show import console
from trialfleet.escape import printable
from trialfleet.settings import load_settings

# Those of the catalogue, which takes a second to load: a test holds them equal.
NAMES = (
    "finalists",
    "learning-curves",
    "search-vs-fresh",
    "optimization-history",
    "param-importances",
    "slice",
    "contour",
    "parallel-coordinate",
    "seed-spread",
    "intermediate-values",
    "rank",
    "edf",
    "budget",
    "workers",
    "timeline",
    "pareto-front",
    "hypervolume-history",
)


def plot(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    name: Annotated[
        str,
        typer.Argument(help=f"One of {', '.join(NAMES)}; the last two with several objectives."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file to write: .html, .png or .svg.")
    ],
    param: Annotated[
        list[str] | None,
        typer.Option(help="A hyperparameter to show, again for each more. Default: all."),
    ] = None,
) -> None:
    """Draw one plot of a study, as it stands now, into a file.

    An .html file opens offline; .png and .svg need no browser.
    """
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.extras import needs

    with needs("report"):
        from coordinator.report.plots import catalog
    from coordinator.report import data
    from trialfleet.store import studies

    catalog.find(name)
    catalog.check_file(out)
    with open_database(load_settings(), application="trialfleet-plot") as database:
        read = data.read(database, studies.find(database, study))
    with needs("report"):
        catalog.write(name, read, out, param or ())
    console.out.print(printable(f"saved: {out}"), markup=False, highlight=False, soft_wrap=True)
