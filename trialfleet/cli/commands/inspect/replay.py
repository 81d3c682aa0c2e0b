"""`trialfleet replay`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from trialfleet.cli.commands.arguments import AllowImport
from trialfleet.cli.show import console
from trialfleet.errors import UsageError
from trialfleet.settings import load_settings


def replay(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    number: Annotated[int | None, typer.Argument(min=0, help="The trial's number.")] = None,
    final: Annotated[
        bool, typer.Option("--final", help="A trial of the final stage instead of the search.")
    ] = False,
    decisions: Annotated[
        bool, typer.Option("--decisions", help="The decisions of the race instead of a trial.")
    ] = False,
    device: Annotated[
        Literal["cpu", "cuda", "auto"] | None,
        typer.Option(help="Where to train. Default: on a device of the kind it was trained on."),
    ] = None,
    allow_import: AllowImport = None,
) -> None:
    """Run a finished trial again and compare: equal to the bit, or exit code 1.

    With --decisions nothing is trained: what the race decided, and by which probabilities, is found
    again from the trials' scores.
    """
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.extras import needs

    with needs("worker"):
        from trialfleet.cli.replay import replay_race, replay_trial

    if decisions == (number is not None):
        raise UsageError("give either a trial's number or --decisions")
    settings = load_settings()
    with open_database(settings, application="trialfleet-replay") as database:
        if number is None:
            equal = replay_race(database, study, console=console.out)
        else:
            equal = replay_trial(
                database, study, number, final=final, device=device, console=console.out
            )
    raise typer.Exit(0 if equal else 1)
