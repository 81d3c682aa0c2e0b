"""What docs/reference.md says of `report --csv` and `--json` is what they write."""

from __future__ import annotations

import csv
import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from coordinator.report import export
from coordinator.report.data import read
from coordinator.watch import watch
from tests.integration.test_several_objectives import with_a_front
from tests.support.studies import create, expire, finish, take, take_all, train_by_hand
from trialfleet.settings import Settings
from trialfleet.store import leases, studies
from trialfleet.store.storage import Database

PAGE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")


def told(kind: str, name: str) -> list[str]:
    """The first column of one of the page's tables."""
    [table] = re.findall(rf"^<!-- {kind}: {name} -->\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


def ended(database: Database, **fields: Any) -> tuple[str, dict[str, Any]]:
    """The CSV and the JSON of a study with everything in it: one trial was lost, another failed."""
    study = create(database, trials=3, top=2, final_seeds=2, **fields)
    take(database)
    expire(database)
    leases.reap(database, study.name)
    finish(database, take(database), state="FAIL", attributes={"reason": "by hand"})

    def train(_seconds: float) -> None:
        now = studies.find(database, study.name)
        trials = database.optuna_study(study.final_name).get_trials() if now.final_id else []
        for claim in take_all(database):
            agents = len(trials[claim.number].user_attrs["seeds"]) if now.final_id else 2
            train_by_hand(database, study, claim, scores=[float(claim.number)] * agents)

    settings = Settings(poll_seconds=0.05, outage_patience=0.0)
    data = read(database, watch(database, study.name, settings=settings, pause=train))
    return export.as_csv(data), json.loads(export.as_json(data))


RACE = {"race": True, "confirm": 2}
BOUND = {"more": '[[constraints]]\nmeasure = "score"\nat_least = -1'}


@pytest.mark.parametrize("fields", [RACE, BOUND], ids=["race", "constraints"])
def test_the_columns_of_the_csv(database: Database, fields: dict[str, Any]) -> None:
    written, _ = ended(database, **fields)
    head = next(csv.reader(StringIO(written)))
    general = [
        re.sub(r"^(param\.).*|^(constraint\.).*", lambda m: f"{m[1] or ''}{m[2] or ''}", name)
        for name in (re.sub(r"^value\.\d$", "value", each) for each in head)
    ]
    page = [
        re.sub(r"(param\.|constraint\.)[A-Z]+$", r"\1", each) for each in told("columns", "csv")
    ]
    assert set(general) <= set(page)
    assert [each for each in page if each in general] == [*dict.fromkeys(general)]
    assert set(page) - set(general) <= {"constraint."}


def test_the_keys_of_the_json(database: Database) -> None:
    _, race = ended(database, **RACE)
    assert [*race] == told("keys", "study")
    assert race["decisions"]
    for name, tables in {
        "trial": [*race["search"], *race["final"]],
        "attempt": race["attempts"],
        "entry": race["account"],
        "decision": race["decisions"],
    }.items():
        for table in tables:
            assert [*table] == told("keys", name)
    outcomes = {each["outcome"] for each in race["attempts"]}
    [row] = re.findall(r"^\| `outcome` \| (.+) \|$", PAGE, re.MULTILINE)
    assert {"finished", "lost"} <= outcomes <= set(re.findall(r"`(\w+)`", row))
    assert {each["kind"] for each in race["account"]} <= set(
        re.findall(r"`([a-z ]+)`", re.findall(r"^\| `kind` \| (.+) \|$", PAGE, re.MULTILINE)[0])
    )


def test_the_keys_of_the_result(database: Database) -> None:
    _, race = ended(database, **RACE)
    page = told("keys", "result")
    assert race["result"].keys() <= set(page)
    assert "confirmation" in race["result"]


def test_the_keys_of_a_result_of_several_objectives(database: Database) -> None:
    result = with_a_front(database).result
    assert result is not None
    assert set(told("keys", "result")) - result.keys() == {"confirmation", "race"}
    assert result.keys() <= set(told("keys", "result"))
