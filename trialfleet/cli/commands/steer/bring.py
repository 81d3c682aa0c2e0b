"""`trialfleet import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trialfleet.cli.commands.arguments import Changes
from trialfleet.cli.show import console
from trialfleet.escape import printable
from trialfleet.settings import load_settings

if TYPE_CHECKING:
    from trialfleet.store.steering.importing import Plan

_SHOWN = 3  # reasons


def bring(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|STUDY.toml",
            help="A study's name; or its file, from which it is created if it is not there yet.",
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|STORAGE",
            help="A CSV file with a column `value` (or one for each objective) and one for each "
            "hyperparameter; or a storage of Optuna's: its URL, an SQLite file, or the file of a "
            "journal.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--study", help="The study in that storage, if it has several.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="THERE=HERE",
            help="A hyperparameter that has another name there, such as lr=learning_rate; may be "
            "given repeatedly.",
        ),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KNOB:NAME=VALUE",
            help="What a choice that has a name there is here, such as 'net_arch:small=[64, 64]'; "
            "may be given repeatedly.",
        ),
    ] = None,
    changes: Changes = None,
) -> None:
    """Let a study's sampler know results from elsewhere, as completed trials.

    With a study file this comes before `trialfleet run`: the search then begins with what is known.
    They take no trial of the budget away, and are never finalists. What was imported before is not
    imported again.
    """
    from trialfleet.checking.mistakes import FieldError
    from trialfleet.cli.connect import open_database
    from trialfleet.errors import SourceError, UsageError
    from trialfleet.store import studies
    from trialfleet.store.steering import elsewhere
    from trialfleet.store.steering.configurations import Names
    from trialfleet.store.steering.importing import import_results, plan
    from trialfleet.study.file import load
    from trialfleet.study.spec import Spec

    def planned(spec: Spec) -> Plan:
        try:
            names = Names.parse(rename or (), choice or (), spec.agent)
            results = elsewhere.results(source, name, spec, names)
            if results:
                names.refuse_unused(each.params for each in results)
        except FieldError as problem:
            raise UsageError(f"{problem.at}: {problem.text}") from None
        found = plan(results, spec, names)
        if found.refused and not found.trials:
            text = f"none of the {len(found.refused)} results fits the study: {_reasons(found)}"
            if others := names.others((each.params for each in results), spec.agent):
                text += f"; the results have {', '.join(others)}; --rename {others[0]}=KNOB says"
                text += " which of ours it is"
            raise SourceError(text)
        return found

    settings = load_settings()
    if study.endswith(".toml"):
        from coordinator.create import create_or_join

        spec = load(Path(study), changes or ())
        found = planned(spec)  # before there is anything to be left behind
        with open_database(settings, application="trialfleet-import", create=True) as database:
            ours = create_or_join(database, spec, artifacts=settings.artifacts)
            outcome = import_results(database, ours, found)
    else:
        if changes:
            raise UsageError("--set goes with a study file, and this is a study's name")
        with open_database(settings, application="trialfleet-import") as database:
            ours = studies.find(database, study)
            found = planned(ours.spec)
            outcome = import_results(database, ours, found)
    told = f"{ours.name}: {outcome.added} trials imported"
    if outcome.there:
        told += f", {outcome.there} were there already"
    if found.refused:
        told += f", {len(found.refused)} left out: {_reasons(found)}"
    console.out.print(printable(told), soft_wrap=True, markup=False, highlight=False)


def _reasons(found: Plan) -> str:
    return "; ".join(found.refused[:_SHOWN]) + "; …" * (len(found.refused) > _SHOWN)
