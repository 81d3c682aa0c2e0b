"""Many worker processes on one study: how long a claim takes, and how many trials a second."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any
from uuid import uuid4

import numpy as np
import optuna
from optuna.storages import RDBStorage

from benchmarks.storage.parts import Ours, Stock, Way, cartpole, returns
from trialfleet.postgres.url import parse_url
from trialfleet.store import leases, studies
from trialfleet.store.storage import Database

# Until all have done their first trial. They are forks of a process that has imported everything,
# or hundreds would take minutes.
_START, _SLOWEST_TRIAL = 600.0, 300.0  # seconds


def crowd(url: str, stock_url: str | None, trials: int, workers: int, seconds: float) -> str:
    """Claims by workers that train for a second on average; then whole trials, without a pause."""
    claims = [each for own in _run(url, workers, seconds, "claims") for each in own]
    p50, p95, p99 = 1e3 * np.quantile(claims, [0.5, 0.95, 0.99])
    ours = sum(map(len, _run(url, workers, seconds, "trials"))) / seconds
    row = (
        f"{workers:>7} {trials:>8,} {p50:>10.1f} {p95:>6.1f} {p99:>6.1f} {len(claims):>8,}"
        f" {ours:>12.1f}"
    )
    if stock_url is None:
        return row
    stock = sum(map(len, _run(stock_url, workers, seconds, "stock"))) / seconds
    return f"{row} {stock:>6.1f} {ours / stock:>6.1f}x"


HEAD = (
    "Claims, ms, by workers that train for a second on average; whole trials a second without\n"
    f"{'workers':>7} {'trials':>8} {'claim p50':>10} {'p95':>6} {'p99':>6} {'claims':>8}"
    f" {'trials/s':>12} {'stock':>6}"
)


def _run(url: str, workers: int, seconds: float, what: str) -> list[list[float]]:
    """The seconds of each claim or trial of each process."""
    context = multiprocessing.get_context("fork")
    barrier, done = context.Barrier(workers), context.Queue()
    arguments = (url, what, seconds, barrier, done)
    processes = [
        context.Process(target=_work, args=(slot, *arguments), daemon=True)
        for slot in range(workers)
    ]
    for each in processes:
        each.start()
    try:
        return [done.get(timeout=_START + seconds + _SLOWEST_TRIAL) for _ in processes]
    finally:
        for each in processes:
            each.join(timeout=10)
            each.kill()


def _work(
    slot: int, url: str, what: str, seconds: float, barrier: Barrier, done: Queue[Any]
) -> None:
    rng = np.random.default_rng(slot)
    if what == "stock":
        spec = cartpole("stock")
        storage = RDBStorage(url, skip_table_creation=True)
        way: Way = Stock(optuna.storages.get_storage(storage), spec, seed=slot)
    else:
        database = Database(parse_url(url), application="bench")
        study = studies.find(database, "crowd")
        spec = study.spec
        way = Ours(database, study)

    def once() -> float:
        """Claim and finish a trial, or run all of one; the seconds that count."""
        started = time.perf_counter()
        if what != "claims":
            way.trial(returns(rng, spec.task.segments))
            return time.perf_counter() - started
        claim = leases.claim(database, "crowd", worker="b", claim_id=uuid4(), lease_seconds=60.0)
        seconds = time.perf_counter() - started
        assert claim is not None
        leases.finish(database, claim, state="COMPLETE", values=[1.0], attributes={})
        return seconds

    once()  # the first one opens the connection and reads the history
    barrier.wait(timeout=_START)
    end = time.monotonic() + seconds
    taken = []
    while time.monotonic() <= end:
        if what == "claims":
            time.sleep(rng.uniform(0.5, 1.5))
        taken.append(once())
    done.put(taken[:-1])  # the last one was not within the time
