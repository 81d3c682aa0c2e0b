"""Plots of what a study found, as pictures among the artifacts of its final stage."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from coordinator.dashboard.publish import attach
from trialfleet.errors import ArtifactStoreError, NothingToShowError
from trialfleet.postgres.retry import first_line
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

log = structlog.get_logger()

NAMES = ("finalists", "learning-curves")


def attach_plots(database: Database, study: Study) -> None:
    """Draw the plots of a study that is done; nothing without the extra `report`.

    A store or database that fails there costs a warning: the study has ended, and well.
    """
    if study.result is None or importlib.util.find_spec("matplotlib") is None:
        return
    from coordinator.report import data
    from coordinator.report.plots import catalog

    try:
        with tempfile.TemporaryDirectory() as folder:
            shown = data.read(database, study)
            for name in NAMES:
                path = Path(folder, f"{study.name}-{name}.png")
                catalog.write(name, shown, path)
                picture = path.read_bytes()
                attach(database, study, filename=path.name, mimetype="image/png", data=picture)
    except (ArtifactStoreError, NothingToShowError, SQLAlchemyError) as exc:
        log.warning("no plots for the dashboard", reason=first_line(exc))
