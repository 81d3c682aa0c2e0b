"""`trialfleet coordinate --all`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import typer

from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def keep_every_study(
    out: Path | None, *, metrics_port: int | None, metrics_host: str | None, notify: str | None
) -> NoReturn:
    """Keep every open study going until a signal comes.

    Args:
        out: Folder in which the best agent of each study is saved as it ends; None for none.
        metrics_port: Options of `coordinate`, as the next two.
        metrics_host: Where the metrics of every study are served.
        notify: Webhook for the notices of every study.

    Raises:
        DatabaseUnavailableError: The database stayed away.
    """
    from coordinator.dashboard.plots import attach_plots
    from coordinator.fleet import Fleet
    from coordinator.monitoring.around import monitored_fleet
    from coordinator.status import snapshot
    from trialfleet.cli.agent.save import save_model
    from trialfleet.cli.connect import database_url
    from trialfleet.cli.monitoring import with_options
    from trialfleet.cli.show.display import summary
    from trialfleet.cli.show.outcome import saved
    from trialfleet.escape import printable
    from trialfleet.store.schema import wait_for_schema
    from trialfleet.store.storage import Database
    from trialfleet.store.studies import Study
    from worker.stop import Stop, StopRequested

    settings = with_options(
        load_settings(), metrics_port=metrics_port, metrics_host=metrics_host, notify=notify
    )
    stop = Stop()
    stop.install()

    def ended(study: Study) -> None:
        told = f"{study.stage}: {summary(snapshot(database, study))}"
        console.out.print(printable(told), soft_wrap=True, markup=False, highlight=False)
        if study.result is not None:
            if out is not None:
                console.out.print(saved(save_model(database, study, out)), soft_wrap=True)
            attach_plots(database, study)

    try:
        with database_url(settings) as url:
            database = Database(url, application="trialfleet-coordinator", pause=stop.wait)
            with monitored_fleet(database, settings, say=console.say) as make_notices:
                wait_for_schema(database, settings.migration_patience, pause=stop.wait)
                Fleet(
                    database,
                    settings=settings,
                    pause=stop.wait,
                    make_notices=make_notices,
                    ended=ended,
                ).run()
    except StopRequested:
        console.say("coordinator stopped; the workers go on with their trials")
        raise typer.Exit(stop.exit_code) from None
