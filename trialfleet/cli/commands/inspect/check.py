"""`trialfleet check`."""

from __future__ import annotations

from trialfleet.cli.commands.arguments import Changes, StudyFile
from trialfleet.cli.show import console


def check(file: StudyFile, changes: Changes = None) -> None:
    """Parse a study file; print the study, its search space, and what it will cost."""
    from trialfleet.cli.check import load_checked, study_report

    console.out.print(study_report(load_checked(file, changes or ())))
