"""`trialfleet run`: database, coordinator and workers on one machine, in one command."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from coordinator import audit
from coordinator.create import create_or_join
from coordinator.dashboard.plots import attach_plots
from coordinator.monitoring.around import monitored
from coordinator.monitoring.notices import Notices
from coordinator.watch import failure, watch
from trialfleet.cli.agent.save import save_model
from trialfleet.cli.connect import database_url
from trialfleet.cli.local.pool import WorkerPool, WorkersKeepDyingError
from trialfleet.cli.local.winner import picture_winner
from trialfleet.cli.report import report_beside
from trialfleet.cli.schema import migrate
from trialfleet.cli.show.console import say
from trialfleet.cli.show.display import Display, make_display
from trialfleet.cli.show.outcome import result_report, saved
from trialfleet.errors import StudyFailedError, SystemRefusedError
from trialfleet.postgres.retry import patiently
from trialfleet.settings import Settings
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.workers import kept_a_trial
from trialfleet.study.spec import Spec
from worker.stop import Stop, StopRequested

LOGS = Path(".trialfleet") / "logs"
_REFRESH = 0.5  # seconds between two pictures


class Run:
    """What `watch` does between two looks at the study: show it, tend the workers, hear Ctrl-C."""

    def __init__(self, display: Display, pool: WorkerPool, stop: Stop) -> None:
        self._display, self._pool, self._stop = display, pool, stop

    def pause(self, seconds: float) -> None:
        """Wait, and keep the workers going."""
        deadline = time.monotonic() + seconds
        while True:
            self._pool.tend()
            left = deadline - time.monotonic()
            self._stop.wait(max(0.0, min(left, _REFRESH)))
            if left <= _REFRESH:
                return

    def show(self) -> None:
        """Show the study."""
        self._display.update()


def run_study(
    spec: Spec, *, workers: int, out: Path, settings: Settings, console: Console, stop: Stop
) -> Study:
    """Run the study to its end, from wherever it stands; the saved agent is in `out`.

    Raises:
        StopRequested: A signal asked for it; the trials under way have been given back.
        StudyFailedError: It has ended without a winner, now or before.
        SystemRefusedError: Logs or agents cannot be written; no study was created.
    """
    with database_url(settings, create=True) as url:
        try:
            LOGS.mkdir(parents=True, exist_ok=True)
            out.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise SystemRefusedError.of(exc) from exc
        migrate(url)
        database = Database(url, application="trialfleet-run")
        study = create_or_join(database, spec, artifacts=settings.artifacts)
        if study.stage == "failed":
            raise failure(study)
        ended_before = study.ended
        if not ended_before:
            with monitored(database, study.name, settings, say=say) as notices:
                study = _work(database, study, workers, settings, console, stop, notices)
        else:
            console.print(f"study {study.name!r} has ended before; nothing is left to do")
        if study.result is not None:
            path = save_model(database, study, out)
            console.print(result_report(study, audit.read(database, study)))
            console.print(saved(path), soft_wrap=True)
            if settings.winner_gif and spec.task.objective is None:
                said = picture_winner(path, stop)
                console.print(said, soft_wrap=True, markup=False, highlight=False)
            if settings.run_report:
                said = report_beside(database, study.name, path)
                console.print(said, soft_wrap=True, markup=False, highlight=False)
                if not ended_before:
                    attach_plots(database, study)
        database.close()
        return study


def _work(
    database: Database,
    study: Study,
    workers: int,
    settings: Settings,
    console: Console,
    stop: Stop,
    notices: Notices | None,
) -> Study:
    display = make_display(console, database, study)
    pool = WorkerPool(
        database.url.render_as_string(hide_password=False),
        study.name,
        count=workers,
        logs=LOGS,
        got_somewhere=lambda name: _got_somewhere(database, name),
    )
    run = Run(display, pool, stop)

    def show() -> None:
        patiently(run.show, patience=settings.outage_patience, pause=run.pause)

    def pause(seconds: float) -> None:
        run.pause(seconds)
        show()

    try:
        study = watch(database, study.name, settings=settings, pause=pause, notices=notices)
        pool.wait(10.0)
        show()
    except StudyFailedError:
        with suppress(SQLAlchemyError):  # the reason for the failure counts more
            run.show()
        raise
    except WorkersKeepDyingError:
        studies.read_again(database, study)  # raises if it was deleted, which they have noticed
        raise
    except StopRequested:
        console.print("stopping: the trials under way are given back …")
        raise
    finally:
        pool.stop()
        display.close()
    return study


def _got_somewhere(database: Database, worker: str) -> bool:
    """Whether a worker has kept a trial it claimed."""
    try:
        with database.transaction() as connection:
            return kept_a_trial(connection, worker)
    except SQLAlchemyError:
        return True  # while the database is away, a death is no news about the worker
