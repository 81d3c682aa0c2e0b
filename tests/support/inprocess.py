"""A worker and a coordinator in the process of the test, for studies whose ending is not at stake.

A worker process takes seconds to start; what trials come to can be looked at without one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from coordinator.watch import watch
from tests.support.studies import at_once
from trialfleet.settings import Settings
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.loop import Worker
from worker.stop import Stop

SETTINGS = Settings(poll_seconds=0.05)


def run_here(
    open_database: Callable[[], Database], name: str = "trivial", *, settings: Settings = SETTINGS
) -> Study:
    """Run a study that exists to its end with one worker; how it ended.

    Raises:
        StudyFailedError: It has ended without a winner.
    """
    databases = [open_database() for _ in range(2)]
    paused = threading.Event()
    worker = Worker(databases[0], name, settings=settings, stop=Stop())
    _, study = at_once(
        worker.run,
        lambda: watch(databases[1], name, settings=settings, pause=paused.wait),
    )
    assert isinstance(study, Study)
    return study
