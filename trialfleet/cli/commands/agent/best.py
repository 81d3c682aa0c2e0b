"""`trialfleet best`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from trialfleet.cli.commands.arguments import AsJson, StudyName
from trialfleet.cli.show import console
from trialfleet.escape import printable
from trialfleet.settings import load_settings


class Format(StrEnum):
    """What the best agent is saved as, other than our own two files."""

    sb3 = "sb3"
    onnx = "onnx"
    hub = "hub"


def best(
    study: StudyName = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            "-o",
            help="Folder to save the best agent in; models with --format.",
        ),
    ] = None,
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="Save it for Stable-Baselines3, as an ONNX graph, or as a folder for the Hugging "
            "Face hub, instead of as our own two files.",
        ),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(
            help="With several objectives: save the agent of this trial of the front, as "
            "NAME-trial-N, instead of the winner's.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the final stage found, and save the best agent."""
    from coordinator import audit
    from trialfleet.cli.agent.export import export
    from trialfleet.cli.agent.save import of_trial, save_model
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.show.outcome import result_report, saved
    from trialfleet.errors import SteeringError
    from trialfleet.store import studies

    with open_database(load_settings(), application="trialfleet-best") as database:
        chosen = studies.find(database, study) if study else studies.find_single(database)
        if chosen.result is None:
            raise SteeringError(f"study {chosen.name!r} has no winner (it is at {chosen.stage!r})")
        audited = audit.read(database, chosen)
        whose = chosen if trial is None else of_trial(chosen, trial)
        lines: list[str] = []
        if kind is not None:
            path, lines = export(database, whose, out or Path("models"), kind.value)
            lines = [*lines, f"saved: {path}"]
        elif out or trial is not None:
            out = out or Path("models")
            lines = [saved(save_model(database, whose, out)).plain]
    if as_json:
        print(json.dumps(chosen.result, indent=2))
        return
    console.out.print(result_report(chosen, audited))
    for line in lines:
        console.out.print(Text(printable(line)), soft_wrap=True)
