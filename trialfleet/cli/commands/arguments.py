"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyFile = Annotated[Path, typer.Argument(help="A study file (TOML).", metavar="STUDY.toml")]
StudyName = Annotated[
    str | None, typer.Argument(help="The study's name; may be left out if there is only one.")
]
Expose = Annotated[
    bool,
    typer.Option(
        "--expose",
        help="Allow an address that other machines reach: the page asks for no password.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
