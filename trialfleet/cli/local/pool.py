"""The worker processes of `trialfleet run`: real ones, restarted when they die."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from trialfleet.errors import DatabaseUnavailableError, FleetError
from trialfleet.parent import Ear
from trialfleet.processes import end_group
from trialfleet.settings import child_environment

log = structlog.get_logger()

# A slot whose workers die this often in a row, none of them having got anywhere with a trial, has a
# reason that a restart does not cure. Deaths in a trial are the study's to count: `max_attempts`
# and `max_failures` end those.
_MAX_DEATHS = 5
_SILENCE = 60.0  # seconds until the same reason for waiting is shown again


class WorkersKeepDyingError(FleetError):
    """Read the named log, correct what it says, and run the same command again."""


class WorkerPool:
    """`count` workers of one study on this machine.

    Args:
        url: The database's, with its password: handed over in the environment, not on the command
            line, which everybody on the machine can read.
        study: Its name.
        count: How many.
        logs: Existing folder for one log file each.
        got_somewhere: Whether the worker of this name has kept a trial it claimed.
    """

    def __init__(
        self,
        url: str,
        study: str,
        *,
        count: int,
        logs: Path,
        got_somewhere: Callable[[str], bool],
    ) -> None:
        self._url, self._study, self._logs = url, study, logs
        self._got_somewhere = got_somewhere
        self._deaths = [0] * count  # in a row, of each slot
        self._refused: set[int] = set()  # slots whose worker must not be started again
        self._ended = False
        self._names: dict[int, str] = {}  # of each slot's worker, once it has one
        self._ears: dict[int, Ear] = {}  # of each slot
        self._shown: dict[str, float] = {}  # why workers wait, and when that was last shown
        self.processes = [self._start(slot) for slot in range(count)]

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        if slot in self._ears:
            self._ears[slot].close()
            self._names.pop(slot, None)
        ear = self._ears[slot] = Ear()
        with self._log(slot).open("ab") as output, ear.speaking() as descriptor:
            return subprocess.Popen(  # noqa: S603
                [
                    *(sys.executable, "-P", "-m", "trialfleet.cli", "worker", self._study),
                    *("--with-parent", "--parent", str(descriptor)),
                ],
                pass_fds=[descriptor],
                env=child_environment(database_url=self._url),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C reaches the whole foreground group; the workers hear of it from us instead,
                # once, so that they give their trials back.
                start_new_session=True,
            )

    def _log(self, slot: int) -> Path:
        return self._logs / f"{self._study}-worker-{slot + 1}.log"

    def tend(self) -> None:
        """Start a new worker for each that has ended: before the study's end that is a death.

        No exit code is an exception, as code that a worker runs for its user may choose any. A
        worker that must not be started again says so itself.

        Raises:
            WorkersKeepDyingError: They die too often, or for a reason that will not go away.
        """
        for slot, process in enumerate(self.processes):
            code = process.poll()
            self._hear(slot)
            if code is None or self._ended:
                continue
            self._deaths[slot] = 0 if self._kept_a_trial(slot) else self._deaths[slot] + 1
            if slot in self._refused or self._deaths[slot] >= _MAX_DEATHS:
                raise WorkersKeepDyingError(
                    f"a worker ended with exit code {code}; its log is {self._log(slot)}"
                )
            if code == DatabaseUnavailableError.exit_code:
                log.warning("a worker gave the database up")
            log.warning("worker died, starting another", code=code, log=str(self._log(slot)))
            self.processes[slot] = self._start(slot)

    def _kept_a_trial(self, slot: int) -> bool:
        return slot in self._names and self._got_somewhere(self._names[slot])

    def _hear(self, slot: int) -> None:
        """Show what a worker waits for, and note its name, and whether it must not come again."""
        for message in self._ears[slot].hear():
            if message.kind == "refused":
                self._refused.add(slot)
            if message.kind == "named":
                self._names[slot] = message.text
            shown = self._shown.get(message.text, -math.inf)
            if message.kind == "waits" and time.monotonic() - shown > _SILENCE:
                self._shown[message.text] = time.monotonic()
                log.warning("workers wait", reason=message.text)

    def wait(self, seconds: float) -> None:
        """Wait for workers that end by themselves because the study has ended."""
        self._ended = True
        deadline = time.monotonic() + seconds
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self.stop()

    def stop(self, grace: float = 10.0) -> None:
        """Ask every worker to give its trial back, and end those that do not within `grace` s."""
        self._ended = True
        alive = [process for process in self.processes if process.poll() is None]
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + grace
        for process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                end_group(process)


def default_workers() -> int:
    """One worker per core: each trains on one thread."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
