"""The processes of a soak: PostgreSQL, coordinator and workers, and a supervisor's care for them.

Everything is started from here and ended by its process id.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trialfleet.postgres.cluster import Cluster
from trialfleet.postgres.embedded import CONFIGURATION, binaries, embedded_postgres

ROOT = Path(__file__).resolve().parents[1]
# A process that died sooner is started again only then, so that a hopeless one costs little.
_SHORTEST_LIFE = 3.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A PostgreSQL of this soak's own, as durable as PostgreSQL is by default."""

    url: str
    data: Path

    def restart(self, mode: Literal["fast", "immediate"]) -> None:
        """Restart it: `fast` disconnects everybody, `immediate` is a crash with recovery."""
        subprocess.run(
            [binaries() / "pg_ctl", "-w", "-D", self.data, "-m", mode, "restart"],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            **Cluster(self.data, binaries()).user(),
        )


@contextmanager
def temporary_server(*, workers: int) -> Iterator[Server]:
    """A server with room for so many workers; gone at the end, with its data."""
    # A socket's path may have 107 characters, fewer than some temporary folders' names take.
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))
    configuration = f"{CONFIGURATION}\nmax_connections = {max(200, 4 * workers)}\n"
    try:
        with embedded_postgres(folder / "pg", configuration=configuration) as url:
            yield Server(url=url, data=folder / "pg")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(kw_only=True)
class Process:
    """One process, its log file, and what was done to it."""

    role: Literal["worker", "coordinator"]
    slot: int
    popen: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)
    killed: bool = False  # by us
    resume_at: float | None = None  # stopped until then, by the monotonic clock
    _up: bool = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Whether it runs, or is stopped."""
        return self.popen.poll() is None

    def up(self, words: str) -> bool:
        """Whether it has logged `words`, is alive and not stopped."""
        if not self._up:
            self._up = words in self.log.read_text(encoding="utf-8", errors="replace")
        return self._up and self.alive and self.resume_at is None

    def kill(self) -> None:
        """End it at once."""
        self.killed = True
        self.popen.kill()
        self.popen.wait()

    def stall(self, seconds: float) -> None:
        """Stop it for so long."""
        self.popen.send_signal(signal.SIGSTOP)
        self.resume_at = time.monotonic() + seconds

    def resume(self) -> None:
        """Let it go on."""
        self.popen.send_signal(signal.SIGCONT)
        self.resume_at = None


class Fleet:
    """Workers, at most one coordinator, and new ones for those that die.

    Args:
        worker: Command line of a worker.
        coordinator: Of the coordinator, if there is one.
        environment: Of all of them.
        workers: How many.
        ready: What a worker logs once it pulls trials.
        logs: Folder for one log file per process.
    """

    def __init__(
        self,
        *,
        worker: list[str],
        coordinator: list[str] | None,
        environment: Mapping[str, str],
        workers: int,
        ready: str,
        logs: Path,
    ) -> None:
        self._commands = {"worker": worker, "coordinator": coordinator or []}
        self._environment = environment
        self._ready, self._logs = ready, logs
        self.starts = 0
        self.crashed: list[Process] = []  # that ended with an error nobody gave them
        self.coordinator: Process | None = None
        self.workers: list[Process] = []
        try:
            if coordinator is not None:
                self.coordinator = self._start("coordinator", 0)
            for slot in range(workers):
                self.workers.append(self._start("worker", slot))
        except BaseException:
            self.close()
            raise

    def _start(self, role: Literal["worker", "coordinator"], slot: int) -> Process:
        self.starts += role == "worker"
        log = self._logs / f"{role}-{slot + 1:02}-{self.starts:04}-{time.time():.0f}.log"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [sys.executable, *self._commands[role]],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us; they are ended by their ids
            )
        return Process(role=role, slot=slot, popen=popen, log=log)

    @property
    def processes(self) -> list[Process]:
        """Everything that a supervisor looks after."""
        return [*([self.coordinator] if self.coordinator else []), *self.workers]

    @property
    def up(self) -> list[Process]:
        """Workers that pull trials at this moment."""
        return [process for process in self.workers if process.up(self._ready)]

    @property
    def ended(self) -> bool:
        """Whether all have ended as those do whose study is over."""
        return all(process.popen.poll() == 0 for process in self.processes)

    def tend(self) -> None:
        """Start a new process for each that died, and let those go on that were stopped."""
        now = time.monotonic()
        for process in self.processes:
            if process.resume_at is not None and now >= process.resume_at:
                process.resume()
            code = process.popen.poll()
            if code in (None, 0):
                continue
            if not process.killed and process not in self.crashed:
                self.crashed.append(process)
            if process.killed or now - process.started >= _SHORTEST_LIFE:
                self._replace(process)

    def _replace(self, process: Process) -> None:
        successor = self._start(process.role, process.slot)
        if process.role == "coordinator":
            self.coordinator = successor
        else:
            self.workers[process.slot] = successor

    def close(self) -> None:
        """End whatever still runs; a stopped process, too."""
        for process in self.processes:
            if process.alive:
                process.kill()

    def log_lines(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every line of JSON that any worker has logged, dead ones included."""
        for path in sorted(self._logs.glob("worker-*.log")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith("{"):
                    try:
                        yield path, json.loads(line)
                    except ValueError:
                        continue  # killed while it wrote


def bare_environment(prefix: str) -> dict[str, str]:
    """Our environment without the settings of the user's own fleet."""
    return {key: value for key, value in os.environ.items() if not key.startswith(prefix)}
