"""`trialfleet check`."""

from __future__ import annotations

from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import AllowImport, Changes, StudyFile
from trialfleet.cli.show import console


def check(
    file: StudyFile,
    changes: Changes = None,
    file_only: Annotated[
        bool,
        typer.Option(
            "--file-only", help="Look at the file alone: import and make nothing that it names."
        ),
    ] = False,
    allow_import: AllowImport = None,
) -> None:
    """Parse a study file; print the study, its search space, and what it will cost.

    The environment is made and stepped, or the function imported, as a worker on this machine
    would do it, in a process of its own.
    """
    from trialfleet.cli.check import load_checked, study_report
    from trialfleet.study.file import load

    spec, tried = (
        (load(file, changes or ()), None) if file_only else load_checked(file, changes or ())
    )
    console.out.print(study_report(spec, tried))
