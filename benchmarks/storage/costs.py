"""What each operation costs the server: time on its processor, and bytes of its log.

python -m benchmarks.storage.costs

From these follows how many workers a server can take: docs/scale.md has the sums.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from sqlalchemy import Connection, create_engine, text

from benchmarks.soak_fleet import temporary_server
from benchmarks.storage.__main__ import make_ours
from benchmarks.storage.parts import Clock, Ours, returns
from trialfleet.cli.schema import migrate
from trialfleet.postgres.url import parse_url
from trialfleet.store import workers
from trialfleet.store.storage import Database

T = TypeVar("T")
_LSN = text("SELECT pg_current_wal_insert_lsn() - '0/0'")
_BACKENDS = text("SELECT pid FROM pg_stat_activity WHERE application_name = 'costs'")
_SIZES = text("""
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
    WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 'fleet'::regnamespace)
""")
_PARTS = ("claim", "open, suggest", "reports", "finish")
_HEARTBEAT, _BEATS = "heartbeat", 20  # so many for each trial


class Meter(Clock):
    """A clock that also reads what the server's process for us has used, summed over all trials."""

    def __init__(self, control: Connection) -> None:
        super().__init__()
        self.seconds[_HEARTBEAT] = 0.0
        self._control = control
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.wal: defaultdict[str, int] = defaultdict(int)  # bytes
        self.cpu: defaultdict[str, int] = defaultdict(int)  # nanoseconds

    def time(self, part: str, call: Callable[[], T]) -> T:
        """`call()`, measured."""
        wal, cpu = self._read()
        try:
            return super().time(part, call)
        finally:
            wal_after, cpu_after = self._read()
            self.calls[part] += 1
            self.wal[part] += wal_after - wal
            self.cpu[part] += cpu_after - cpu

    def _read(self) -> tuple[int, int]:
        pids = self._control.scalars(_BACKENDS)
        # On this machine: the first number there is the time on the processor.
        cpu = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)
        return int(self._control.scalar(_LSN) or 0), cpu


def measure(url: str, *, history: int, trials: int) -> None:
    """Print a row for each operation, and what a trial leaves behind."""
    engine = create_engine(parse_url(url), isolation_level="AUTOCOMMIT")
    with closing(Database(parse_url(url), application="costs")) as database:
        study = make_ours(database, "costs", history)
        identity = {"worker": "costs", "study": study.name, "host": "", "pid": 0, "version": ""}
        rng = np.random.default_rng(0)
        with engine.connect() as control:
            meter = Meter(control)
            way = Ours(database, study, clock=lambda: meter)
            way.trial(returns(rng, study.spec.task.segments))  # loads the history
            control.execute(text("CHECKPOINT"))
            _pages(meter, way, rng, study.spec.task.segments)
            for counts in (meter.calls, meter.wal, meter.cpu):
                counts.clear()
            before = int(control.scalar(_SIZES) or 0)
            for _ in range(trials):
                way.trial(returns(rng, study.spec.task.segments))
                for step in range(_BEATS):
                    beat = partial(workers.beat, database, identity, step=step)
                    meter.time(_HEARTBEAT, beat)
            grown = int(control.scalar(_SIZES) or 0) - before
    print(f"{'':16} {'calls a trial':>13} {'server CPU, ms':>15} {'WAL, bytes':>11}")
    for part in (*_PARTS, _HEARTBEAT):
        calls = meter.calls[part]
        cpu, wal = 1e-6 * meter.cpu[part] / calls, meter.wal[part] / calls
        print(f"{part:16} {calls / trials:>13.1f} {cpu:>15.3f} {wal:>11,.0f}")
    print(f"a trial leaves {grown / trials:,.0f} bytes of tables and indexes")


def _pages(meter: Meter, way: Ours, rng: np.random.Generator, segments: int) -> None:
    """Write to every page once: the first change after a checkpoint logs a page whole."""
    for _ in range(20):
        way.trial(returns(rng, segments))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storage.costs",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python -m benchmarks.storage.costs --history 1000 --trials 100",
    )
    parser.add_argument("--history", type=int, default=10_000, help="trials there before")
    parser.add_argument("--trials", type=int, default=200, help="trials to measure")
    given = parser.parse_args()
    with temporary_server(workers=1) as server:
        migrate(parse_url(server.url))
        measure(server.url, history=given.history, trials=given.trials)


if __name__ == "__main__":
    main()
