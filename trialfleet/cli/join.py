"""Which study a worker is to work for, and waiting for a coordinator that is yet to create it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from trialfleet.cli.imports import search_beside
from trialfleet.errors import StudyNotFoundError, UsageError
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.study.file import load
from trialfleet.study.spec import Spec

log = structlog.get_logger()

_POLL = 0.2  # seconds


def study_wanted(wanted: str | None) -> tuple[str | None, Spec | None]:
    """The name that `wanted` is; or name and content of the study file that it is the path of.

    Raises:
        StudyFileError: Something is wrong with the file.
    """
    if wanted is None or not wanted.endswith(".toml") or not Path(wanted).is_file():
        return wanted, None
    spec = load(Path(wanted))
    search_beside(Path(wanted))
    return spec.name, spec


def wait_for_study(
    database: Database,
    name: str | None,
    spec: Spec | None,
    patience: float,
    pause: Callable[[float], object],
) -> str:
    """The study's name, once it exists; with no name, that of the only study.

    Raises:
        StudyNotFoundError: It does not after `patience` seconds.
        StudyMismatchError: It was created from something else than `spec`.
        UsageError: No name is given, and there are several studies or none.
    """
    deadline = time.monotonic() + patience
    told = False
    while True:
        try:
            study = studies.find_single(database) if name is None else studies.find(database, name)
            break
        except (StudyNotFoundError, UsageError):
            several = name is None and studies.find_all(database)
            if several or time.monotonic() >= deadline:
                raise
        if not told:
            log.info("waiting for the study to be created", study=name, seconds=patience)
            told = True
        pause(_POLL)
    if spec is not None:
        studies.refuse_other(study, spec)
    return study.name
