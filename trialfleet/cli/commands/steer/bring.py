"""`trialfleet import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import NamedStudy
from trialfleet.cli.show import console
from trialfleet.escape import printable
from trialfleet.settings import load_settings

_SHOWN = 3  # reasons


def bring(
    study: NamedStudy,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.csv|STORAGE",
            help="A table with a column `value` (or one for each objective) and one for each "
            "hyperparameter; or a storage of Optuna's: a URL, or the file of a journal.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--study", help="The study in that storage, if it has several.")
    ] = None,
) -> None:
    """Let a study's sampler know results from elsewhere, as completed trials.

    They take no trial of the budget away, and are never finalists. What was imported before is not
    imported again.
    """
    from trialfleet.cli.connect import open_database
    from trialfleet.errors import UsageError
    from trialfleet.store import studies
    from trialfleet.store.steering import elsewhere, tables
    from trialfleet.store.steering.importing import import_results

    with open_database(load_settings(), application="trialfleet-import") as database:
        found = studies.find(database, study)
        if source.endswith(".csv"):
            results = tables.from_csv(Path(source), found.spec)
        else:
            results = elsewhere.from_optuna(source, name, found.spec)
        outcome = import_results(database, found, results)
    reasons = "; ".join(outcome.refused[:_SHOWN]) + "; …" * (len(outcome.refused) > _SHOWN)
    if outcome.refused and not outcome.trials and not outcome.known:
        raise UsageError(f"none of the {len(outcome.refused)} results fits the study: {reasons}")
    told = f"{found.name}: {outcome.trials} trials imported"
    if outcome.known:
        told += f", {outcome.known} were there already"
    if outcome.refused:
        told += f", {len(outcome.refused)} left out: {reasons}"
    console.out.print(printable(told), soft_wrap=True, markup=False, highlight=False)
