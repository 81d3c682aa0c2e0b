"""Metrics in the database: written together, read by name, and where the curves of before went."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from migrations.migrate import downgrade, upgrade
from tests.support.studies import create, take, train_by_hand
from trialfleet.postgres.outages import lease_was_lost
from trialfleet.store import metrics
from trialfleet.store.metrics import Metric
from trialfleet.store.storage import Database
from trialfleet.store.trials import reports

NAN = float("nan")
# The last bits count: replay compares them.
RETURNS = [0.1 + 0.2, 1e-308, 1 / 3]


def test_what_is_written_is_read_by_name_to_the_bit(database: Database) -> None:
    study = create(database)
    claim = take(database)
    rows = [
        Metric(step=32, name="return", values=[1.5, float("inf"), -2e300]),
        Metric(step=16, name="return", values=RETURNS),
        Metric(step=16, name="episode_return", values=[NAN, 7.0, np.float64(0.1)]),
        Metric(step=16, name="a name, with 'quotes' and {braces}", values=[1.0]),
    ]
    for _ in range(2):  # as after a lost reply
        returns = [(16, 1.0), (32, 2.0)]
        receipt = reports.send(database, claim, sent=0, returns=returns, metrics=rows)
        assert receipt == reports.Receipt(stored=32, finished=0)
        curves = metrics.read(database, study.search_id, "return")
        assert curves == {0: [(16, RETURNS), (32, [1.5, float("inf"), -2e300])]}
    [(step, values)] = metrics.read(database, study.search_id, "episode_return")[0]
    assert step == 16
    assert np.array_equal(values, [NAN, 7.0, 0.1], equal_nan=True)
    assert metrics.read(database, study.search_id, rows[3].name) == {0: [(16, [1.0])]}
    assert metrics.read(database, study.search_id, "unheard of") == {}
    trial = database.optuna_study(study.name).get_trials()[0]
    assert trial.intermediate_values == {16: 1.0, 32: 2.0}


def test_a_later_value_replaces_the_one_before(database: Database) -> None:
    study = create(database)
    claim = take(database)
    for value in (1.0, 2.0):
        row = Metric(step=16, name="loss", values=[value])
        reports.send(database, claim, sent=0, returns=[(16, value)], metrics=[row])
    assert metrics.read(database, study.search_id, "loss") == {0: [(16, [2.0])]}


def test_the_curves_of_before_are_metrics_now_and_guarded(database_url: URL) -> None:
    engine = create_engine(database_url, poolclass=NullPool)
    with closing(Database(database_url, application="tests")) as database:
        study = create(database, train_steps=32)
        train_by_hand(database, study, take(database), scores=[1.0, 2.0])
        before = metrics.read(database, study.search_id, "return")
        assert before[0][-1] == (32, [1.0, 2.0])
        with engine.begin() as connection:
            downgrade(connection, "0001")
        with engine.begin() as connection:
            old = connection.execute(text("SELECT step, returns FROM fleet.curves ORDER BY step"))
            assert [tuple(row) for row in old] == before[0]
            upgrade(connection)
        assert metrics.read(database, study.search_id, "return") == before
        with pytest.raises(DBAPIError) as refused, database.transaction() as connection:
            connection.execute(text("UPDATE fleet.metrics SET step = step + 1"))
        assert lease_was_lost(refused.value)
