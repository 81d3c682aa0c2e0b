"""What optuna-dashboard's buttons do to our studies, through its HTTP API."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import optuna
import pytest
from sqlalchemy import text

from coordinator.dashboard import server as dashboard
from coordinator.dashboard.server import make_dashboard
from tests.support.studies import create, take, train_by_hand
from trialfleet.artifacts.stores import open_store
from trialfleet.store import studies
from trialfleet.store.storage import Database

pytest.importorskip("optuna_dashboard")


@pytest.fixture
def address(database: Database) -> Iterator[str]:
    store = open_store("database", database)
    server = make_dashboard(database, store, host="127.0.0.1", port=0, writable=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(address: str, method: str, path: str, **body: object) -> int:
    """The status of the answer."""
    request = urllib.request.Request(
        address + path,
        method=method,
        data=json.dumps(body).encode() if method != "GET" else None,
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_deleting_takes_everything_along(database: Database, address: str) -> None:
    study = create(database)
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    take(database)
    assert ask(address, "GET", f"/api/studies/{study.search_id}") == 200
    assert ask(address, "DELETE", f"/api/studies/{study.search_id}") == 204
    with database.transaction() as connection:
        for table in ("fleet.studies", "fleet.attempts", "public.studies", "public.trials"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0
    assert ask(address, "GET", "/api/studies") == 200


def test_our_study_keeps_its_name_and_the_pages_work(database: Database, address: str) -> None:
    study = create(database)
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    path = f"/api/studies/{study.search_id}"
    for same in (path, f"/api/studies/{study.search_id:010d}"):
        assert ask(address, "POST", f"{same}/rename", study_name="other") == 409
    assert ask(address, "POST", f"/api/studies/{10**12}/rename", study_name="other") >= 400
    assert ask(address, "GET", path) == 200
    assert studies.find(database, "trivial").search_id == study.search_id
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM public.studies")) == 1


def test_the_database_itself_refuses_another_name(
    database: Database, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = create(database)
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    monkeypatch.setattr(dashboard, "_RENAME", re.compile("never"))
    path = f"/api/studies/{study.search_id}"
    assert ask(address, "POST", f"{path}/rename", study_name="other") == 500
    assert [each.name for each in studies.find_all(database)] == [study.name]
    with database.transaction() as connection:
        names = connection.scalars(text("SELECT study_name FROM public.studies")).all()
    assert names == [study.name]


def test_a_study_of_stock_optunas_is_renamed(database: Database, address: str) -> None:
    theirs = optuna.create_study(storage=database.optuna_storage(), study_name="theirs")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    path = f"/api/studies/{theirs._study_id}"
    assert ask(address, "POST", f"{path}/rename", study_name="renamed") == 201
    assert len(database.optuna_study("renamed").get_trials()) == 2
