"""The report's page in a file: when somebody asks, and at the end of `run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog

from coordinator.report import data
from coordinator.report.data import StudyData
from trialfleet.cli.agent.files import write
from trialfleet.cli.extras import needs
from trialfleet.errors import FleetError
from trialfleet.escape import printable
from trialfleet.store import studies
from trialfleet.store.storage import Database

log = structlog.get_logger()


def write_page(read: StudyData, path: Path, *, folders: Sequence[Path]) -> None:
    """Write the page; a GIF of the agent may lie in one of the folders.

    Raises:
        UsageError: The extra `report` is not installed.
    """
    with needs("report"):
        from coordinator.report.page.render import page
    pictures = [
        folder / name for folder in folders for name in (f"{read.study.name}.gif", "agent.gif")
    ]
    content = page(read, pictures=pictures)
    write(path, content.encode())


def report_beside(database: Database, name: str, model: Path) -> str:
    """Write MODEL.html, the report beside a saved model; a line that says so, or why there is none.

    Nothing that goes wrong here is raised: the study has its result.
    """
    path = model.with_suffix(".html")
    try:
        read = data.read(database, studies.find(database, name))
        write_page(read, path, folders=[path.parent])
    except FleetError as exc:
        return f"no report: {printable(' '.join(str(exc).split()))}"
    except Exception as exc:
        log.debug("no report", exc_info=True)
        return f"no report: {type(exc).__name__}: {printable(' '.join(str(exc).split()))}"
    return saved(path)


def saved(path: Path) -> str:
    """The line that says where a file lies now."""
    return printable(f"saved: {path}")
