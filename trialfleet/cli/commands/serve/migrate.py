"""`trialfleet migrate`."""

from __future__ import annotations

from typing import Annotated

import typer

from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def migrate(
    wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for a PostgreSQL that is coming up.")
    ] = 0.0,
) -> None:
    """Create or upgrade the database's schema. Needs the database owner's URL."""
    from trialfleet.cli.connect import database_url
    from trialfleet.cli.schema import migrate as bring_up_to_date
    from trialfleet.cli.schema import service_logins
    from trialfleet.postgres.retry import patiently
    from trialfleet.store.tables import REVISION

    settings = load_settings()
    logins = service_logins(settings)
    with database_url(settings, create=True) as url:
        if wait:
            patiently(lambda: bring_up_to_date(url, logins), patience=wait, longest_pause=0.5)
        else:
            bring_up_to_date(url, logins)
    console.out.print(f"the schema is at revision {REVISION}")
    for login in logins:
        console.out.print(f"{login.name} may log in as {login.role}", markup=False)
