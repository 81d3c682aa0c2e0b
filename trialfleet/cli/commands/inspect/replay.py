"""`trialfleet replay`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from trialfleet.cli.commands.arguments import AllowImport
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def replay(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    number: Annotated[int, typer.Argument(min=0, help="The trial's number.")],
    final: Annotated[
        bool, typer.Option("--final", help="A trial of the final stage instead of the search.")
    ] = False,
    device: Annotated[
        Literal["cpu", "cuda", "auto"] | None,
        typer.Option(help="Where to train. Default: on a device of the kind it was trained on."),
    ] = None,
    allow_import: AllowImport = None,
) -> None:
    """Run a finished trial again and compare: equal to the bit, or exit code 1."""
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.replay import replay_trial

    settings = load_settings()
    with open_database(settings, application="trialfleet-replay") as database:
        equal = replay_trial(
            database, study, number, final=final, device=device, console=console.out
        )
    raise typer.Exit(0 if equal else 1)
