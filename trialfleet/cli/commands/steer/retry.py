"""`trialfleet retry`."""

from __future__ import annotations

from trialfleet.cli.commands.arguments import NamedStudy
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def retry(study: NamedStudy) -> None:
    """Let a study that has failed go on, once its cause is mended.

    Trials that have failed stay as they are; others take their place, and as many more may fail as
    the study file allows. A final stage that failed stays as NAME.final.1; there is another one.
    """
    from trialfleet.cli.connect import open_database
    from trialfleet.store import studies
    from trialfleet.store.steering import course

    with open_database(load_settings(), application="trialfleet-retry") as database:
        found = course.retry(database, studies.find(database, study))
    console.out.print(
        f"{found.name}: it is back at its search, and {found.spec.search.max_failures} more trials"
        f" may fail; start a coordinator and workers if {study} has none",
        soft_wrap=True,
    )
