"""What a worker does besides training, and how long it takes to begin.

python -m benchmarks.worker_overhead

A real worker runs trials of a study on a PostgreSQL of its own, which is as durable as PostgreSQL
is by default, and every part of its loop is timed from here. The study has a history already, so
that sampler and pruner have something to read. Then `trialfleet worker` is started from cold, a few
times: from before the process exists to its first claim, on the clock of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import numpy as np
import optuna
from sqlalchemy import text

from benchmarks.soak_fleet import ROOT, bare_environment, temporary_server
from coordinator.create import create_or_join
from trialfleet.cli.schema import migrate
from trialfleet.postgres.url import parse_url
from trialfleet.postgres.waiting import wait_until
from trialfleet.search import space
from trialfleet.settings import PREFIX, Settings
from trialfleet.store import leases
from trialfleet.store.storage import Database
from trialfleet.study.file import load
from trialfleet.study.spec import Spec
from worker.attempt import Attempt
from worker.heartbeat import Heartbeat
from worker.loop import Worker
from worker.reports import Reports
from worker.resume import Checkpoints
from worker.stop import Stop, StopRequested
from worker.trainers.dqn import trainer
from worker.trainers.dqn.trainer import Training
from worker.trainers.threads import use_one_thread

# What of the worker is timed, and as which part.
PARTS: dict[str, list[tuple[Any, str]]] = {
    "claim": [(leases, "claim")],
    "open, suggest": [(Attempt, "_open")],
    "look for a checkpoint": [(Checkpoints, "restore")],
    "make the agents": [(trainer, "make_trainer")],
    "record metrics": [(Training, "_measure")],
    "report, metrics": [(Reports, "try_to_flush"), (Reports, "flush")],
    "prune": [(Reports, "pruned")],
    "checkpoint": [(Checkpoints, "take"), (Checkpoints, "save_if_due")],
    "finish": [(leases, "finish")],
}
TRAINING = "training"
REST = "everything else"
HEARTBEAT = "heartbeat (CPU, its own thread)"

LAST_CLAIM = text("""
    SELECT extract(epoch FROM max(claimed_at))::float FROM fleet.attempts
    WHERE claimed_at > to_timestamp(:since)
""")
_PATIENCE = 60.0  # seconds for a worker to claim


class Stopwatch:
    """Seconds in each part; while a part runs inside another one, the outer one's clock stands."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        self._turn()
        self._running.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


class Trials:
    """A stopwatch for each trial, from one claim to the next."""

    def __init__(self) -> None:
        self.watches: list[Stopwatch] = []
        self.beat_seconds = 0.0  # of CPU, by the heartbeat's thread

    @property
    def now(self) -> Stopwatch:
        """The running trial's."""
        return self.watches[-1]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, timed as part `name`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.now.part(name):
                return function(*args, **kwargs)

        return call

    def claims(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`leases.claim`, which begins a trial, or ends it all when there is none."""

        def call(*args: Any, **kwargs: Any) -> Any:
            watch = Stopwatch()
            with watch.part("claim"):
                claim = function(*args, **kwargs)
            if claim is None:
                raise StopRequested
            self.watches.append(watch)
            return claim

        return call

    def trains(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`Training.run`, each of its steps timed."""

        def call(training: Training) -> Iterator[Any]:
            events = function(training)
            while True:
                with self.now.part(TRAINING):
                    event = next(events, None)
                if event is None:
                    return
                yield event

        return call

    def runs(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`Worker._run`, the whole of a trial after its claim."""
        return self.timed(REST, function)

    def beats(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`Heartbeat.beat`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            begun = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.beat_seconds += time.thread_time() - begun

        return call


def time_trials(database: Database, spec: Spec) -> Trials:
    """Run a worker until there is nothing left to claim."""
    trials = Trials()
    with ExitStack() as stack:

        def wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
            stack.enter_context(patch.object(owner, name, wrapper(getattr(owner, name))))

        for part, functions in PARTS.items():
            for owner, name in functions:
                timed = trials.claims if part == "claim" else _timer(trials, part)
                wrap(owner, name, timed)
        wrap(Training, "run", trials.trains)
        wrap(Worker, "_run", trials.runs)
        wrap(Heartbeat, "beat", trials.beats)
        worker = Worker(database, spec.name, settings=Settings(), stop=Stop())
        try:
            worker.run()
        except StopRequested:
            return trials
    raise AssertionError("a worker whose study has not ended does not return")


def _timer(trials: Trials, part: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda function: trials.timed(part, function)


def add_history(database: Database, spec: Spec, count: int) -> None:
    """Claim, report and finish so many trials that train nothing, with made-up returns."""
    rng = np.random.default_rng(spec.seed)
    sampler = optuna.samplers.RandomSampler(seed=spec.seed)
    steps = range(spec.task.eval_every, spec.task.train_steps + 1, spec.task.eval_every)
    for _ in range(count):
        claim = leases.claim(
            database, spec.name, worker="history", claim_id=uuid4(), lease_seconds=_PATIENCE
        )
        assert claim is not None
        storage = database.optuna_storage(claim.fence)
        study = database.optuna_study(spec.name, storage=storage, sampler=sampler)
        trial = optuna.Trial(study, claim.trial_id)
        space.suggest(trial, spec.agent)
        end = float(rng.uniform(9.0, 500.0))
        for step in steps:
            trial.report(end * step / steps[-1], step)
        leases.finish(database, claim, state="COMPLETE", values=[end], attributes={})


def time_start(url: str, study: str, database: Database) -> float:
    """Seconds from before a worker's process exists until its first claim; then it is stopped."""
    begun = time.time()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "trialfleet.cli", "worker", study],
        cwd=ROOT,
        env={**bare_environment(PREFIX), f"{PREFIX}DATABASE_URL": url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def claimed_at() -> float | None:
        with database.transaction() as connection:
            found: float | None = connection.scalar(LAST_CLAIM, {"since": begun})
        return found

    try:
        claimed = wait_until(lambda: claimed_at() is not None, _PATIENCE, pause=0.05)
        if not claimed:
            sys.exit(f"the worker has claimed nothing; exit code {process.poll()}")
        return (claimed_at() or 0.0) - begun
    finally:
        process.terminate()
        process.wait()


def table(watches: list[Stopwatch], beat_seconds: float) -> str:
    """A line for each part: seconds in all, and its share of the whole."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for watch in watches:
        for name, spent in watch.seconds.items():
            seconds[name] += spent
    whole = sum(seconds.values())
    lines = [f"{'':32} {'ms/trial':>9} {'share':>7}"]
    for name in (*PARTS, REST, HEARTBEAT, TRAINING):
        spent = beat_seconds if name == HEARTBEAT else seconds[name]
        lines.append(f"{name:32} {1e3 * spent / len(watches):9.2f} {spent / whole:7.2%}")
    lines.append(f"outside training: {outside(watches, beat_seconds):.2%}")
    return "\n".join(lines)


def outside(watches: list[Stopwatch], beat_seconds: float = 0.0) -> float:
    """The share of the time that was not training, the heartbeat's CPU time included."""
    whole = sum(sum(watch.seconds.values()) for watch in watches)
    training = sum(watch.seconds[TRAINING] for watch in watches)
    return (whole - training + beat_seconds) / whole


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.worker_overhead",
        description="A worker's time outside training, and from its start to its first claim.",
        epilog="example: python -m benchmarks.worker_overhead --trials 9 --starts 5",
    )
    add = parser.add_argument
    add("--study", type=Path, default=ROOT / "studies" / "cartpole.toml", metavar="STUDY.toml")
    add("--trials", type=int, default=9, help="to run and time (default: %(default)s)")
    add("--history", type=int, default=50, help="trials there before (default: %(default)s)")
    add("--starts", type=int, default=5, help="of a cold worker (default: %(default)s)")
    options = parser.parse_args()
    if options.trials < 2 or options.starts < 1 or options.history < 0:
        parser.error("--trials must be at least 2, --starts 1, and --history not negative")
    use_one_thread()
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[variable]
    spec = load(options.study)
    trials, starts = options.history + options.trials, [*range(options.starts)]
    with temporary_server(workers=2) as server:
        migrate(parse_url(server.url))
        database = Database(parse_url(server.url), application="benchmark")
        timed = with_fields(spec, name=spec.name, trials=trials)
        create_or_join(database, timed)
        add_history(database, timed, options.history)
        cold = with_fields(spec, name=f"{spec.name}-cold", trials=spec.search.trials)
        create_or_join(database, cold)
        found = [time_start(server.url, cold.name, database) for _ in starts]
        print(
            f"process start to first claim, of {len(found)}: median {statistics.median(found):.2f} "
            f"s, from {min(found):.2f} to {max(found):.2f}",
            flush=True,
        )
        done = time_trials(database, timed)
        database.close()
    first, *rest = done.watches
    print(f"the first trial of a process, outside training: {outside([first]):.2%}")
    print(f"the {len(rest)} after it:")
    print(table(rest, done.beat_seconds * len(rest) / len(done.watches)))


def with_fields(spec: Spec, *, name: str, **search: Any) -> Spec:
    """The study under another name, with these fields of its search."""
    fields = json.loads(spec.to_json())
    fields["name"] = name
    fields["search"] |= search
    return Spec.from_json(json.dumps(fields))


if __name__ == "__main__":
    main()
