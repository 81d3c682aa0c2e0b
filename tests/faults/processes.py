"""Commands of ours as real processes: forked with their imports done, or started from nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.faults.clock import shift_clock
from tests.faults.environments import STEER
from tests.support.forking import Forked

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 40.0  # seconds until a test gives a condition up

# The host name that a forked process is to believe in.
HOST = "FAULTS_HOST"
# How many seconds its wall clock is to be ahead.
CLOCK = "FAULTS_CLOCK"


def eventually(condition: Callable[[], T], what: str, *, within: float = PATIENCE) -> T:
    """The first truthy value of `condition`, looked at again and again until the deadline."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within:g} seconds: {what}"
        time.sleep(0.02)
    return value


def _mislead() -> None:
    """What a forked process is to believe, of its host and of its clock."""
    if HOST in os.environ:
        # Containers that are made anew come back with the same names and the same process ids.
        host = os.environ[HOST]
        socket.gethostname = lambda: host
        os.getpid = lambda: 7
    if CLOCK in os.environ:
        shift_clock(float(os.environ[CLOCK]))


class Process:
    """A command of ours as a process of its own, its output in a file.

    Args:
        arguments: After `trialfleet`.
        folder: Where it runs and logs.
        name: For people, and for its log.
        environment: All of it.
        cold: Start an interpreter instead of forking one.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        folder: Path,
        name: str,
        environment: dict[str, str],
        cold: bool,
    ) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        self._steer = folder / f"{name}.steer"
        environment = {**environment, STEER: str(self._steer)}
        self._process: subprocess.Popen[bytes] | Forked
        if cold:
            with self.log.open("wb") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "trialfleet.cli", *arguments],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        else:
            self._process = Forked(
                arguments,
                folder=folder,
                out=self.log,
                err=self.log,
                environment=environment,
                prepare=_mislead,
            )
        self.pid = self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, as a shell's is: 128 and the signal; None while it runs."""
        found = self._process.poll()
        return 128 - found if found is not None and found < 0 else found

    @property
    def output(self) -> str:
        """Everything it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def says(self, words: str, *, times: int = 1, within: float = PATIENCE) -> None:
        """Wait until it has said so."""
        eventually(
            lambda: self.output.count(words) >= times,
            f"{self.name} says {words!r}",
            within=within,
        )

    def steer(self, word: str) -> None:
        """Tell its environments what to do; nothing in particular if the word is empty."""
        if word:
            temporary = self._steer.with_suffix(".new")
            temporary.write_text(word, encoding="utf-8")
            temporary.replace(self._steer)
        else:
            self._steer.unlink(missing_ok=True)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, as the out-of-memory killer and a pulled plug do."""
        if self.code is None:
            self.send(signal.SIGKILL)
            self.ends()

    def ends(self, *, within: float = PATIENCE) -> int:
        """Wait for its end; the exit code."""
        eventually(lambda: self.code is not None, f"{self.name} ends", within=within)
        assert self.code is not None
        return self.code
