"""A fleet of several studies, one of which somebody keeps locked.

    python -m benchmarks.locked_fleet --workers 12 --seconds 60

Workers are processes that claim, report and finish as `trialfleet worker` does, and sleep instead
of training. A session like psql's holds the row of the first study. What is printed: how long
claims of the other studies took, before the lock and while it was held, how many trials lost their
lease, and how many processes the server had for each worker.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import time
from contextlib import closing
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import NamedTuple
from uuid import uuid4

import psycopg2

from benchmarks.soak_fleet import ROOT, temporary_server
from coordinator.create import create_or_join
from trialfleet.cli.schema import migrate
from trialfleet.errors import LeaseLostError
from trialfleet.postgres.outages import is_outage
from trialfleet.postgres.url import parse_url
from trialfleet.postgres.waiting import REPLY_TIMEOUT, set_reply_timeout
from trialfleet.store import leases
from trialfleet.store.storage import Database
from trialfleet.store.trials import reports
from trialfleet.study.file import load
from trialfleet.study.spec import Spec
from worker.heartbeat import Heartbeat
from worker.serving import EveryStudy

NAMES = ("locked", "second", "third")
LEASE = 30.0  # seconds, the default
TRAINING = 0.4  # seconds that a trial takes, on average
APPLICATION = "locked-fleet"
COUNT = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"


class Seen(NamedTuple):
    """What a worker did once."""

    what: str  # the study that a trial was claimed of; "failed", "lost" or "nothing"
    at: float  # by the machine's clock
    seconds: float  # that the claim took


def work(url: str, seconds: float, everybody: Barrier, seen: Queue[list[Seen]]) -> None:
    """A worker's life of so many seconds, from when everybody is there."""
    set_reply_timeout(min(REPLY_TIMEOUT, LEASE / 4))
    found: list[Seen] = []
    name, rng = f"bench-{os.getpid()}", random.Random(os.getpid())
    with closing(Database(parse_url(url), application=APPLICATION)) as database:
        source = EveryStudy(database)
        identity: dict[str, object] = {
            "worker": name,
            "study": "",
            "host": "here",
            "pid": os.getpid(),
            "version": "0",
        }
        heartbeat = Heartbeat(
            database, identity=identity, lease_seconds=LEASE, on_stall=lambda claim: None
        )
        heartbeat.start()
        everybody.wait()
        until = time.time() + seconds
        while time.time() < until:
            asked, at = time.monotonic(), time.time()
            try:
                claim = source.claim(name, uuid4(), LEASE)
            except Exception as exc:
                if not is_outage(exc):
                    raise
                found.append(Seen("failed", at, time.monotonic() - asked))
                time.sleep(rng.uniform(0.0, 0.1))
                continue
            seconds = time.monotonic() - asked
            found.append(Seen("nothing" if claim is None else claim.study, at, seconds))
            if claim is None:
                time.sleep(1.0)
                continue
            heartbeat.hold(claim, since=asked)
            time.sleep(rng.uniform(0.5, 1.5) * TRAINING)
            try:
                heartbeat.check()
                reports.send(database, claim, sent=0, returns=[(1, 1.0)], metrics=[])
                leases.finish(
                    database, claim, state="COMPLETE", values=[1.0], attributes={}, sent=1
                )
            except LeaseLostError:
                found.append(Seen("lost", at, 0.0))
            except Exception as exc:
                if not is_outage(exc):
                    raise
                found.append(Seen("lost", at, 0.0))
            heartbeat.drop()
        heartbeat.close()
    seen.put(found)


def row(name: str, found: list[Seen], *, seconds: float, processes: float) -> str:
    """A line of the table."""
    claims = [each.seconds for each in found if each.what in NAMES[1:]]
    cuts = statistics.quantiles(claims, n=100) if len(claims) > 1 else [float("nan")] * 99
    counts = [sum(each.what == what for each in found) for what in (NAMES[0], "failed", "lost")]
    return (
        f"{name:16} {len(claims) / seconds:8.1f} {1e3 * cuts[49]:8.1f} {1e3 * cuts[94]:8.1f}"
        f" {1e3 * cuts[98]:8.1f} {counts[0]:8} {counts[1]:7} {counts[2]:6} {processes:10.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.locked_fleet",
        description="A fleet of three studies, one of which somebody keeps locked.",
        epilog="example: python -m benchmarks.locked_fleet --workers 12 --seconds 60",
    )
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60.0, help="that the lock is held")
    options = parser.parse_args()
    if options.workers < 1 or options.seconds < 1:
        parser.error("--workers must be at least 1, and --seconds, too")
    context = multiprocessing.get_context("fork")
    calm = options.seconds / 3
    with temporary_server(workers=options.workers) as server:
        migrate(parse_url(server.url))
        spec = json.loads(load(ROOT / "studies" / "demo.toml").to_json())
        spec["search"]["trials"] = 1_000_000
        with closing(Database(parse_url(server.url), application="benchmark")) as database:
            for name in NAMES:
                create_or_join(database, Spec.from_json(json.dumps(spec | {"name": name})))
        everybody = context.Barrier(options.workers + 1)
        seen: Queue[list[Seen]] = context.Queue()
        processes = [
            context.Process(target=work, args=(server.url, calm + options.seconds, everybody, seen))
            for _ in range(options.workers)
        ]
        for process in processes:
            process.start()
        everybody.wait()
        began = time.time()
        until = began + calm + options.seconds
        libpq = server.url.replace("postgresql+psycopg2", "postgresql")
        with closing(psycopg2.connect(libpq)) as psql, closing(psycopg2.connect(libpq)) as eye:
            eye.autocommit = True
            before = _most(eye, began + calm)
            with psql.cursor() as cursor:
                cursor.execute(
                    "SELECT 1 FROM public.studies WHERE study_name = %s FOR UPDATE", NAMES[:1]
                )
            held = _most(eye, until)
            found = [each for _ in processes for each in seen.get()]
            psql.rollback()
        for process in processes:
            process.join()
    print(
        f"{options.workers} workers, 3 studies; claims of the two others in ms\n"
        f"{'':16} {'claims/s':>8} {'p50':>8} {'p95':>8} {'p99':>8} {'locked':>8} {'failed':>7}"
        f" {'lost':>6} {'processes':>10}"
    )
    phases = (
        ("before", began, began + calm, before),
        ("one is locked", began + calm, until, held),
    )
    for name, start, end, most in phases:
        inside = [each for each in found if start <= each.at < end]
        print(row(name, inside, seconds=end - start, processes=most / options.workers))
    print("locked: trials of the locked study; processes: the server's for each worker, at most")


def _most(connection: psycopg2.extensions.connection, until: float) -> int:
    """The greatest number of processes that the server has for workers until then."""
    most = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(COUNT, (APPLICATION,))
            found = cursor.fetchone()
        most = max(most, found[0] if found else 0)
        if time.time() >= until:
            return most
        time.sleep(0.2)


if __name__ == "__main__":
    main()
