"""How long the dashboard takes to open a study of many trials, in a browser.

    python -m benchmarks.pages [--trials 1000 10000]

The trials have the parameters and reports of studies/cartpole.toml and the attributes that a worker
writes. Seconds of `page` are from the start of a headless Chromium to the drawn page, without what
an empty page takes; `again` is the same with the server's caches filled.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
import urllib.request

from sqlalchemy import text

from benchmarks import browser
from benchmarks.storage.__main__ import make_ours
from coordinator.dashboard.server import make_dashboard
from tests.support.server import temporary_server
from trialfleet.artifacts.stores import open_store
from trialfleet.store.storage import Database

ATTRIBUTES = text("""
    INSERT INTO public.trial_user_attributes (trial_id, key, value_json)
    SELECT t.trial_id, a.key, a.value FROM public.trials t, json_each_text(CAST(:all AS json)) a
    WHERE t.study_id = :study_id
""")
WRITTEN = {
    "scores": [201.4, 187.25, 500.0, 333.125],
    "seeds": [4_093_478_383_906_428_324 + 2 * n for n in range(4)],
    "steps": 120_000,
    "seconds": 31.415,
    "attempt": 1,
    "attempts": 1,
    "worker": "worker-12-4711-a0b1c2",
    "host": "worker-12",
    "device": "cpu",
    "hardware": "x86_64",
    "trained_by": [{"device": "cpu", "hardware": "x86_64", "torch": "2.13.0", "numpy": "2.4.1"}],
    "versions": {"trialfleet": "0.2.0", "torch": "2.13.0", "numpy": "2.4.1", "optuna": "5.0.0"},
    "digest": "0" * 64,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1_000, 10_000])
    options = parser.parse_args()
    empty = _timed("about:blank", "")
    print(" trials  first answer s  again s  megabytes  page s  again s")
    with temporary_server() as server, server.fresh_database() as url:
        database = Database(url, application="bench")
        for trials in options.trials:
            study = make_ours(database, f"pages-{trials}", trials)
            values = {name: json.dumps(value) for name, value in WRITTEN.items()}
            with database.transaction() as connection:
                connection.execute(text("SET LOCAL session_replication_role = replica"))
                connection.execute(
                    ATTRIBUTES, {"study_id": study.search_id, "all": json.dumps(values)}
                )
            _measure(database, study.search_id, trials, empty)
        database.close()


def _measure(database: Database, study_id: int, trials: int, empty: float) -> None:
    served = Database(database.url, application="bench")  # as a process that has just started
    store = open_store("database", served)
    server = make_dashboard(served, store, host="127.0.0.1", port=0, writable=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    at = f"http://127.0.0.1:{server.server_port}"
    answers = []
    for _ in range(2):
        started = time.perf_counter()
        with urllib.request.urlopen(f"{at}/api/studies/{study_id}") as answer:  # noqa: S310
            size = len(answer.read())
        answers.append(time.perf_counter() - started)
    server.shutdown()
    served.close()

    served = Database(database.url, application="bench")
    server = make_dashboard(served, store, host="127.0.0.1", port=0, writable=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    page = f"http://127.0.0.1:{server.server_port}/dashboard/studies/{study_id}"
    pages = [_timed(page, "Hyperparameter Importance") - empty for _ in range(2)]
    server.shutdown()
    served.close()
    print(
        f"{trials:7,}  {answers[0]:14.1f}  {answers[1]:7.1f}  {size / 1e6:9.1f}"
        f"  {pages[0]:6.1f}  {pages[1]:7.1f}",
        flush=True,
    )


def _timed(url: str, expected: str) -> float:
    """Seconds until the page is drawn."""
    started = time.perf_counter()
    seen = browser.html(url, seconds=3.0, size=(1600, 1000))
    assert expected in seen, seen[-2000:]
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
