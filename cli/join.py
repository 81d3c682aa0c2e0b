"""Which study a worker is to work for, and waiting for a coordinator that is yet to create it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tuning import studies
from tuning.errors import StudyNotFoundError, UsageError
from tuning.storage import Database
from tuning.studyfile import load

_POLL = 0.2  # seconds


def study_name(wanted: str | None) -> str | None:
    """The name that `wanted` is, or that the study file has which it is the path of.

    Raises:
        StudyFileError: Something is wrong with the file.
    """
    if wanted is None or not wanted.endswith(".toml") or not Path(wanted).is_file():
        return wanted
    return load(Path(wanted)).name


def wait_for_study(
    database: Database, name: str | None, patience: float, pause: Callable[[float], object]
) -> str:
    """The study's name, once it exists; with no name, that of the only study.

    Raises:
        StudyNotFoundError: It does not after `patience` seconds.
        UsageError: No name is given, and there are several studies or none.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return (studies.only(database) if name is None else studies.find(database, name)).name
        except (StudyNotFoundError, UsageError):
            several = name is None and studies.every(database)
            if several or time.monotonic() >= deadline:
                raise
        pause(_POLL)
