"""One worker with several lanes against as many workers: how fast, and how much memory.

python -m benchmarks.processes

Real workers on a PostgreSQL of its own, in turns. The time is from the first claim to the last
trial's end, so that nobody's start is in it; memory is what the processes hold by then, pages that
several of them share counted once (`Pss`).
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from benchmarks.soak_fleet import ROOT, bare_environment, temporary_server
from benchmarks.worker_overhead import with_fields
from coordinator.create import create_or_join
from trialfleet.cli.schema import migrate
from trialfleet.postgres.url import parse_url
from trialfleet.postgres.waiting import wait_until
from trialfleet.settings import PREFIX
from trialfleet.store.storage import Database
from trialfleet.study.file import load
from trialfleet.study.spec import Spec

_PATIENCE = 600.0  # seconds
DONE = text(
    "SELECT count(*), EXTRACT(epoch FROM max(a.ended_at) - min(a.claimed_at))::float"
    " FROM fleet.attempts a JOIN public.trials t USING (trial_id)"
    " WHERE t.study_id = :study_id AND a.outcome = 'finished'"
)


def run(
    database: Database, url: str, spec: Spec, *, processes: int, lanes: int
) -> tuple[float, float]:
    """Train all trials of a study's search; the seconds, and the MiB of all processes."""
    study = create_or_join(database, spec)
    started = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "trialfleet.cli", "worker", spec.name, f"--lanes={lanes}"],
            cwd=ROOT,
            env={**bare_environment(PREFIX), f"{PREFIX}DATABASE_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(processes)
    ]

    def finished() -> tuple[int, float]:
        with database.transaction() as connection:
            count, seconds = connection.execute(DONE, {"study_id": study.search_id}).one()
        return count, seconds

    try:
        if not wait_until(lambda: finished()[0] >= spec.search.trials, _PATIENCE):
            sys.exit(f"the trials are not done; exit codes {[each.poll() for each in started]}")
        return finished()[1], sum(map(_memory, started))
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def _memory(process: subprocess.Popen[bytes]) -> float:
    pages = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
    found = re.search(r"Pss:\s+(\d+) kB", pages)
    assert found is not None, "Linux has it"
    return int(found[1]) / 1024


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.processes",
        description="One worker with lanes against as many workers.",
        epilog="example: python -m benchmarks.processes --lanes 4 --trials 16 --rounds 3",
    )
    cores = len(os.sched_getaffinity(0))
    add = parser.add_argument
    add("--study", type=Path, default=ROOT / "studies" / "cartpole.toml", metavar="STUDY.toml")
    add("--lanes", type=int, default=cores, help="trials at once (default: one a core)")
    add("--trials", type=int, default=12, help="of each turn (default: %(default)s)")
    add("--rounds", type=int, default=3, help="whose medians are printed (default: %(default)s)")
    options = parser.parse_args()
    spec = load(options.study)
    ways = {
        f"{options.lanes} workers": {"processes": options.lanes, "lanes": 1},
        f"{options.lanes} lanes": {"processes": 1, "lanes": options.lanes},
    }
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    with temporary_server(workers=2 * options.lanes) as server:
        migrate(parse_url(server.url))
        database = Database(parse_url(server.url), application="benchmark")
        for turn in range(options.rounds):
            for way, how in ways.items():
                name = f"{spec.name}-{turn}-{how['lanes']}"
                search = with_fields(spec, name=name, trials=options.trials, pruner="none")
                found[way].append(run(database, server.url, search, **how))
        database.close()
    print(f"{options.trials} trials of {spec.name}, medians of {options.rounds} turns")
    print(f"{'':12} {'seconds':>9} {'MiB':>7}")
    for way, turns in found.items():
        seconds, memory = (statistics.median(each) for each in zip(*turns, strict=True))
        print(f"{way:12} {seconds:9.1f} {memory:7,.0f}")


if __name__ == "__main__":
    main()
