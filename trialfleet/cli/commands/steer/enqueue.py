"""`trialfleet enqueue`."""

from __future__ import annotations

from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import NamedStudy
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def enqueue(
    study: NamedStudy,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="KNOB=VALUE…", help="Values of searched knobs; the sampler chooses the others."
        ),
    ],
) -> None:
    """Have a study try a configuration, before those that its sampler chooses.

    It is one of the study's budget of trials. Text with spaces and lists are TOML:
    'net_arch=[64, 64]'.
    """
    from trialfleet.checking.mistakes import FieldError
    from trialfleet.cli.connect import open_database
    from trialfleet.errors import UsageError
    from trialfleet.search import fixed
    from trialfleet.store import studies
    from trialfleet.store.steering import adding
    from trialfleet.study.changes import Change

    with open_database(load_settings(), application="trialfleet-enqueue") as database:
        found = studies.find(database, study)
        try:
            changes = [Change.parse(text, form="KNOB=VALUE, such as gamma=0.99") for text in values]
            table = {".".join(each.path): each.value for each in changes}
            checked = fixed.checked(table, found.spec.agent)
        except FieldError as problem:
            raise UsageError(f"{problem.at}: " * bool(problem.at) + problem.text) from None
        number = adding.enqueue(database, found, checked)
    console.out.print(f"{found.name}: enqueued as trial {number}", soft_wrap=True)
