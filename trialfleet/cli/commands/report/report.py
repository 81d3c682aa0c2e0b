"""`trialfleet report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def report(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The page to write. Default: report.html, unless another is asked."
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write the trials into this file, one a row.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write the whole study into this file.")
    ] = None,
) -> None:
    """Write one page about a study, as it stands now: the answer, plots, compute, how to repeat it.

    The page opens offline. A GIF of the agent, beside the page or in models/, is shown on it.
    """
    from coordinator.report import data, export
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.report import saved, write_page
    from trialfleet.store import studies

    if out is None and csv is None and as_json is None:
        out = Path("report.html")
    with open_database(load_settings(), application="trialfleet-report") as database:
        read = data.read(database, studies.find(database, study))
    if csv is not None:
        csv.write_text(export.as_csv(read), encoding="utf-8", newline="")
    if as_json is not None:
        as_json.write_text(export.as_json(read), encoding="utf-8")
    if out is not None:
        write_page(read, out, folders=[out.parent, Path("models")])
    for path in (csv, as_json, out):
        if path is not None:
            console.out.print(saved(path), markup=False, highlight=False, soft_wrap=True)
