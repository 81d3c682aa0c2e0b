"""Drive a study through its schedule of faults, and gather what came of it."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg2

from benchmarks.schedule import KINDS, Fault, Kind, by_kind
from benchmarks.soak_fleet import Fleet, Process, Server, temporary_server

_TICK = 0.1  # seconds between two looks
_PROGRESS_EVERY = 10.0


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A fault that was carried out."""

    kind: Kind
    at: float  # seconds of the epoch; the database runs on the same clock
    pid: int  # of the process, 0 for PostgreSQL


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the database and the logs say about a study at its end."""

    counted: int  # COMPLETE and PRUNED trials of the search
    rows: int
    failed: int
    retry_rows: int  # rows that only a retry has added
    lost: int  # trials missing from the budget, and acknowledged results that are gone
    double: int  # beyond the budget, repeated numbers, results acknowledged twice
    stuck: int  # RUNNING or WAITING at the end, and the study itself if it has not ended
    held: Counter[Kind]  # workers that were hit while they held a trial
    retried: int  # attempts at a trial that had been begun before
    resumed: int  # of these, those that went on from a checkpoint
    recoveries: list[float]  # seconds from a kill to the trial being claimed again or ended
    stall_recoveries: list[float]  # the same from a SIGSTOP
    notes: list[str]  # what a reader should know besides


class System(Protocol):
    """What is soaked: how to set it up, start it, and judge it."""

    name: str
    ready: str  # what a worker logs once it pulls trials
    count: str  # SQL for the trials that count; empty database included

    def prepare(self, url: str, folder: Path) -> None:
        """Create schema and study."""

    @property
    def worker(self) -> list[str]:
        """A worker's command line, after the interpreter."""

    @property
    def coordinator(self) -> list[str] | None:
        """The coordinator's, if there is one."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Of every process."""

    def judge(self, connection: Any, hits: Sequence[Hit], fleet: Fleet) -> Verdict:
        """Look through the rows and the logs of a study that has ended, or was given up."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One column of the table."""

    name: str
    hits: Counter[Kind]
    planned: Counter[Kind]
    starts: int
    crashes: list[str]  # the last line of each worker that ended by itself with an error
    ended: bool  # by itself, before the timeout
    seconds: float
    verdict: Verdict


class Gauge:
    """Counts the trials that count, and knows the last number while the database is away."""

    def __init__(self, url: str, query: str) -> None:
        self._url, self._query = url, query
        self._connection: Any = None
        self.counted = 0

    def read(self) -> int:
        """The number, now or when it was last to be had."""
        try:
            if self._connection is None:
                self._connection = psycopg2.connect(self._url)
                self._connection.autocommit = True
            with self._connection.cursor() as cursor:
                cursor.execute(self._query)
                self.counted = cursor.fetchone()[0]
        except psycopg2.Error:
            self.close()
        return self.counted

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(kw_only=True)
class Drive:
    """One study on its way through the schedule."""

    fleet: Fleet
    server: Server
    gauge: Gauge
    schedule: Sequence[Fault]
    trials: int
    lease: float
    name: str
    hits: list[Hit] = field(default_factory=list)

    def run(self, timeout: float) -> bool:
        """Until the study has ended by itself, or for `timeout` seconds; whether it did."""
        waiting = deque(self.schedule)
        started = said = time.monotonic()
        while not self.fleet.ended:
            now = time.monotonic()
            if now - started > timeout:
                return False
            self.fleet.tend()
            counted = self.gauge.read()
            if waiting and counted >= waiting[0].at * self.trials and self._strike(waiting[0]):
                waiting.popleft()
            if now - said >= _PROGRESS_EVERY:
                said = now
                self._say(counted, now - started)
            time.sleep(_TICK)
        self._say(self.gauge.read(), time.monotonic() - started)
        return True

    def _strike(self, fault: Fault) -> bool:
        """Carry the fault out; False if there is nobody to hit yet."""
        pid = 0
        if fault.kind in ("kill", "stall"):
            up = self.fleet.up
            # Kills do not outpace restarts: a fleet that is hardly there shows nothing.
            if len(up) < max(1, len(self.fleet.workers) // 4):
                return False
            victim = up[int(fault.draw * len(up))]
            pid, at = victim.pid, time.time()
            if fault.kind == "kill":
                victim.kill()
            else:
                # Long enough for the lease to run out and for somebody to take the trial.
                victim.stall(1.3 * self.lease + 2.0)
        elif fault.kind == "coordinator":
            if self.fleet.coordinator is None:
                return True
            if not self.fleet.coordinator.alive:
                return False
            pid, at = self.fleet.coordinator.pid, time.time()
            self.fleet.coordinator.kill()
        else:
            at = time.time()
            self.server.restart("fast" if fault.kind == "fast" else "immediate")
        self.hits.append(Hit(kind=fault.kind, at=at, pid=pid))
        return True

    def _say(self, counted: int, seconds: float) -> None:
        done, planned = by_kind(self.hits), by_kind(self.schedule)
        faults = ", ".join(f"{KINDS[k]} {done[k]}/{planned[k]}" for k in KINDS if planned[k])
        print(
            f"{self.name}: {seconds:4.0f} s, {counted}/{self.trials} trials, "
            f"{len(self.fleet.up)}/{len(self.fleet.workers)} workers up; {faults}",
            file=sys.stderr,
            flush=True,
        )


def soak(
    system: System,
    schedule: Sequence[Fault],
    *,
    workers: int,
    trials: int,
    lease: float,
    timeout: float,
    logs: Path,
) -> Report:
    """Run one system through the schedule on a PostgreSQL of its own."""
    logs.mkdir(parents=True, exist_ok=True)
    with temporary_server(workers=workers) as server:
        system.prepare(server.url, logs)
        started = time.monotonic()
        fleet = Fleet(
            worker=system.worker,
            coordinator=system.coordinator,
            environment=system.environment,
            workers=workers,
            ready=system.ready,
            logs=logs,
        )
        gauge = Gauge(server.url, system.count)
        drive = Drive(
            fleet=fleet,
            server=server,
            gauge=gauge,
            schedule=schedule,
            trials=trials,
            lease=lease,
            name=system.name,
        )
        try:
            ended = drive.run(timeout)
            seconds = time.monotonic() - started
        finally:
            gauge.close()
            fleet.close()
        connection = psycopg2.connect(server.url)
        try:
            verdict = system.judge(connection, drive.hits, fleet)
        finally:
            connection.close()
    return Report(
        name=system.name,
        hits=by_kind(drive.hits),
        planned=by_kind([each for each in schedule if _applies(each, system)]),
        starts=fleet.starts,
        crashes=[_last_words(process) for process in fleet.crashed],
        ended=ended,
        seconds=seconds,
        verdict=verdict,
    )


def _applies(fault: Fault, system: System) -> bool:
    return fault.kind != "coordinator" or system.coordinator is not None


def _last_words(process: Process) -> str:
    """Exit code, and what the process said last, without what differs from one time to the next."""
    text = process.log.read_text(encoding="utf-8", errors="replace").strip()
    found = re.findall(r"^[\w.]*(?:Error|Exception|Interrupt)\b.*", text, flags=re.MULTILINE)
    words = (found or text.splitlines() or ["an empty log"])[-1]
    return f"exit {process.popen.poll()}: {re.sub(r'[0-9]+', 'N', words)[:150]}"
