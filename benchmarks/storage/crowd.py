"""Many worker processes on one study: how long a claim takes, and how many trials a second."""

from __future__ import annotations

import subprocess
import sys
import time
from uuid import uuid4

import numpy as np
import optuna
from optuna.storages import RDBStorage

from benchmarks.soak_fleet import ROOT
from benchmarks.storage.parts import Ours, Stock, Way, cartpole, returns
from trialfleet.postgres.url import parse_url
from trialfleet.store import leases, studies
from trialfleet.store.storage import Database


def crowd(url: str, stock_url: str | None, trials: int, workers: int, seconds: float) -> str:
    """Claims by workers that train for a second on average; then whole trials, without a pause."""
    claims = [float(line) for line in _run(url, workers, seconds, "claims")]
    p50, p95, p99 = 1e3 * np.quantile(claims, [0.5, 0.95, 0.99])
    ours = sum(int(line) for line in _run(url, workers, seconds, "trials")) / seconds
    beside = ""
    if stock_url is not None:
        stock = sum(int(line) for line in _run(stock_url, workers, seconds, "stock")) / seconds
        beside = f", stock {stock:.1f}"
    return (
        f"{workers:>3} workers, {trials:>7,} trials there: claim p50 {p50:.1f}, p95 {p95:.1f},"
        f" p99 {p99:.1f} ms of {len(claims):,}; whole trials a second {ours:.1f}"
        f"{beside}"
    )


def _run(url: str, workers: int, seconds: float, what: str) -> list[str]:
    begin = time.time() + 5.0 + 0.8 * workers  # by then every process has started
    command = [sys.executable, "-m", "benchmarks.storage.crowd", url, what]
    processes = [
        subprocess.Popen(
            [*command, str(begin), str(seconds), str(slot)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for slot in range(workers)
    ]
    lines = [line for each in processes for line in each.communicate()[0].splitlines()]
    assert not any(each.returncode for each in processes), "every process came to its end"
    return lines


def work(url: str, what: str, begin: float, seconds: float, slot: int) -> None:
    """One process: print the seconds of each claim, or how many trials it has done."""
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
    time.sleep(max(0.0, begin - time.time()))
    done = 0
    while time.time() < begin + seconds:
        if what != "claims":
            way.trial(returns(rng, spec.task.segments))
            done += 1
            continue
        time.sleep(rng.uniform(0.5, 1.5))
        started = time.perf_counter()
        claim = leases.claim(database, "crowd", worker="b", claim_id=uuid4(), lease_seconds=60.0)
        print(time.perf_counter() - started)
        assert claim is not None
        leases.finish(database, claim, state="COMPLETE", values=[1.0], attributes={})
    if what != "claims":
        print(done)


if __name__ == "__main__":
    url, what, begin, seconds, slot = sys.argv[1:]
    work(url, what, float(begin), float(seconds), int(slot))
