"""What coordination costs, ours beside stock Optuna's RDBStorage, on one PostgreSQL in one run.

python -m benchmarks.storage

A trial of cartpole.toml's space that trains nothing: random sampler, median pruner, 24 reports with
a question to the pruner after each. All ways report the same made-up values to studies of the same
length, in turns, and must decide the same. Stock Optuna has a database of its own, without our
schema and its triggers; "grpc" is Optuna's gRPC proxy in front of it. The server is as durable as
PostgreSQL is by default.

Then: what TPE's suggestion costs, apart from the storage; many workers at once; and, with
--pooled, hundreds of them that share few connections through PgBouncer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import numpy as np
import optuna
from optuna.storages import GrpcStorageProxy, RDBStorage
from optuna.study import StudyDirection
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from benchmarks.soak_fleet import temporary_server
from benchmarks.storage import suggestions
from benchmarks.storage.crowd import HEAD, crowd
from benchmarks.storage.history import fill
from benchmarks.storage.parts import PARTS, Ours, Stock, Way, cartpole, returns
from benchmarks.storage.servers import grpc_proxy, pgbouncer
from coordinator.create import create_or_join
from trialfleet.cli.schema import migrate
from trialfleet.postgres.database import Postgres
from trialfleet.postgres.url import optuna_url, parse_url
from trialfleet.postgres.waiting import set_reply_timeout
from trialfleet.search.space import distributions
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.study.spec import Spec

_CONNECTIONS = 20  # that PgBouncer keeps
_SHORT = 1_000  # trials of a history that stock Optuna's processes read soon enough


@contextmanager
def server_with(workers: int) -> Iterator[str]:
    """The URL of a migrated database, on a server of its own with room for so many workers."""
    with temporary_server(workers=workers) as server:
        migrate(parse_url(server.url))
        set_reply_timeout(None)  # filling takes its time
        yield server.url


def make_ours(database: Database, name: str, trials: int, sampler: str = "random") -> Study:
    """A study of ours with a history of so many trials."""
    study = create_or_join(database, cartpole(name, sampler))
    _fill(database, study.search_id, study.spec, trials, ours=True)
    return study


def make_stock(url: str, name: str, trials: int, sampler: str = "random") -> tuple[Spec, str]:
    """The same study in a database that plain Optuna has made; its URL."""
    engine = create_engine(parse_url(url), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    own = parse_url(url).set(database=name)
    storage = RDBStorage(optuna_url(own))
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], name)
    storage.engine.dispose()
    spec = cartpole(name, sampler)
    with closing(Postgres(own, application="bench")) as postgres:
        _fill(postgres, study_id, spec, trials, ours=False)
    return spec, optuna_url(own)


def _fill(postgres: Postgres, study_id: int, spec: Spec, trials: int, *, ours: bool) -> None:
    steps = [spec.task.eval_every * n for n in range(1, spec.task.segments + 1)]
    fill(
        postgres,
        study_id,
        trials,
        distributions=distributions(spec.agent),
        steps=steps,
        ours=ours,
    )


def measure(url: str, trials: int, repeat: int, *, grpc: bool) -> None:
    """Print a row for each way, with `trials` finished ones there before."""
    with ExitStack() as stack:
        database = Database(parse_url(url), application="bench")
        stack.callback(database.close)
        study = make_ours(database, f"ours-{trials}", trials)
        spec, stock_url = make_stock(url, f"stock-{trials}", trials)

        def ours() -> Way:
            fresh = Database(parse_url(url), application="bench")
            stack.callback(fresh.close)
            return Ours(fresh, study)

        def stock() -> Way:
            storage = RDBStorage(stock_url, skip_table_creation=True)
            stack.callback(storage.engine.dispose)
            # As `optuna.load_study` wraps it: what has finished is read once.
            return Stock(optuna.storages.get_storage(storage), spec)

        def proxied() -> Way:
            named, behind = make_stock(url, f"grpc-{trials}", trials)
            port = stack.enter_context(grpc_proxy(behind))
            return Stock(GrpcStorageProxy(host="127.0.0.1", port=port), named)

        rng = np.random.default_rng(trials)
        segments = spec.task.segments
        curves = [returns(rng, segments) for _ in range(repeat + 1)]
        ways: dict[str, Callable[[], Way]] = {"ours": ours, "stock": stock}
        if grpc:
            ways["grpc"] = proxied
        firsts, made, ended = {}, {}, {}
        for name, make in ways.items():
            started = time.perf_counter()
            made[name] = make()
            _, state = made[name].trial(curves[0])
            firsts[name], ended[name] = time.perf_counter() - started, [state]
        clocks: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for curve in curves[1:]:
            for name, way in made.items():
                clock, state = way.trial(curve)
                clocks[name].append(clock.seconds)
                ended[name].append(state)
        assert all(states == ended["ours"] for states in ended.values()), "they decide alike"
    totals = {}
    for name, seconds in clocks.items():
        medians = [1e3 * statistics.median(each[part] for each in seconds) for part in PARTS]
        totals[name] = 1e3 * statistics.median(sum(each.values()) for each in seconds)
        parts = "".join(f"{value:>15.1f}" for value in medians)
        print(f"{trials:>7,} {name:>6} {totals[name]:>9.1f}{parts} {firsts[name]:>10.2f}")
    print(f"{'':>14} {totals['stock'] / totals['ours']:>8.1f}x", flush=True)


def measure_tpe(url: str, trials: int, repeat: int) -> None:
    """Print what a suggestion of TPE's costs with `trials` finished ones there before."""
    with closing(Database(parse_url(url), application="bench")) as database:
        study = make_ours(database, f"tpe-{trials}", trials, "tpe")
        spec, stock_url = make_stock(url, f"stock-tpe-{trials}", trials, "tpe")
        storage = RDBStorage(stock_url, skip_table_creation=True)
        cached = optuna.storages.get_storage(storage)
        rows = {
            "ours": suggestions.medians(lambda: suggestions.ours(database, study), repeat),
            "stock": suggestions.medians(lambda: suggestions.stock(cached, spec), repeat),
        }
        storage.engine.dispose()
    for name, (stored, thought) in rows.items():
        print(f"{trials:>7,} {name:>6} {stored:>9.1f} {thought:>9.1f}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storage",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python -m benchmarks.storage --trials 1 1000 --repeat 5 --workers 8",
    )
    parser.add_argument("--trials", type=int, nargs="*", default=[1, 1_000, 10_000, 80_000])
    parser.add_argument("--repeat", type=int, default=7, help="trials of each way, after the first")
    parser.add_argument("--grpc-trials", type=int, default=1_000, help="no proxy above so many")
    parser.add_argument("--tpe-trials", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--crowd-trials", type=int, nargs="*", default=[0, 10_000, 80_000])
    parser.add_argument("--seconds", type=float, default=15.0, help="of each crowd")
    parser.add_argument("--pooled", type=int, default=0, help="workers behind PgBouncer")
    given = parser.parse_args()
    # Each crowd is forked: this process keeps no connection while one runs.
    if given.trials:
        with server_with(1) as url:
            print("ms a trial, medians")
            heads = "".join(f"{part:>15}" for part in PARTS)
            print(f"{'trials':>7} {'':>6} {'a trial':>9}{heads} {'first, s':>10}", flush=True)
            for trials in given.trials:
                measure(url, trials, given.repeat, grpc=trials <= given.grpc_trials)
    if given.tpe_trials:
        with server_with(1) as url:
            print(f"TPE, ms a suggestion\n{'trials':>7} {'':>6} {'storage':>9} {'sampler':>9}")
            for trials in given.tpe_trials:
                measure_tpe(url, trials, given.repeat)
    if given.workers and given.crowd_trials:
        print(HEAD, flush=True)
    for trials in given.crowd_trials if given.workers else []:
        with server_with(max(given.workers)) as url:
            with closing(Database(parse_url(url), application="bench")) as database:
                make_ours(database, "crowd", trials)
            # Stock reads all of it in each process, which takes minutes where it is long.
            short = trials <= _SHORT
            stock_url = make_stock(url, "stock", trials)[1] if short else None
            for workers in given.workers:
                print(crowd(url, stock_url, trials, workers, given.seconds), flush=True)
    if given.pooled:
        print(f"{_CONNECTIONS} connections through PgBouncer in transaction pooling\n{HEAD}")
        with server_with(1) as url, pgbouncer(url, connections=_CONNECTIONS) as through:
            with closing(Database(parse_url(through), application="bench")) as database:
                make_ours(database, "crowd", 0)
            print(crowd(through, None, 0, given.pooled, given.seconds), flush=True)


if __name__ == "__main__":
    main()
