"""`report`, `plot` and `compare` on a stored study, and what is read of it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from coordinator.report import data
from coordinator.report.account import account
from coordinator.watch import step
from tests.support.processes import Commands
from tests.support.studies import create, expire, take, take_all, train_by_hand
from trialfleet.store import studies
from trialfleet.store.storage import Database


def finished(database: Database, name: str, *, fresh: float) -> None:
    """A study brought to its end by hand; its first trial was lost once."""
    study = create(database, name=name, trials=4, train_steps=32, eval_every=16)
    take(database, name, worker="gone")
    expire(database)
    step(database, name)
    for stage_score in (100.0, fresh):
        for number, claim in enumerate(take_all(database, name)):
            agents = 2 if claim.stage == "search" else len(_seeds(database, claim.trial_id))
            scores = [stage_score + number + agent for agent in range(agents)]
            train_by_hand(database, studies.find(database, name), claim, scores=scores)
        step(database, name)
    assert studies.find(database, name).stage == "done", study.stage


def _seeds(database: Database, trial_id: int) -> list[int]:
    seeds: list[int] = database.optuna_storage().get_trial(trial_id).user_attrs["seeds"]
    return seeds


@pytest.mark.xdist_group("report")
def test_a_stored_study_is_read_reported_plotted_and_compared(
    database: Database, commands: Commands
) -> None:
    finished(database, "one", fresh=200.0)
    finished(database, "two", fresh=300.0)
    read = data.read(database, studies.find(database, "one"))
    assert read.states() | {"FAIL": 0} == {
        "COMPLETE": 4,
        "PRUNED": 0,
        "FAIL": 0,
        "RUNNING": 0,
        "WAITING": 0,
    }
    assert [trial.values[0] for trial in read.complete] == [103.5, 102.5, 101.5, 100.5]
    assert [kind.kind for kind in account(read)] == ["completed", "final", "lost"]
    lost = [attempt for attempt in read.attempts if attempt.outcome == "lost"]
    assert [(attempt.number, attempt.worker) for attempt in lost] == [(0, "gone")]
    assert all(attempt.seconds >= 0 for attempt in read.attempts)
    assert read.returns[1] == [(16, [0.0, 0.0]), (32, [101.0, 102.0])]

    commands.run("report", "one", "-o", "r.html", "--csv", "t.csv", "--json", "s.json")
    page = (commands.folder / "r.html").read_text(encoding="utf-8")
    winner = read.winner
    assert winner is not None
    assert f"{winner['mean']:.1f}" in page
    with (commands.folder / "t.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4 + len(read.final)
    assert json.loads((commands.folder / "s.json").read_text())["study"] == "one"

    commands.run("plot", "one", "finalists", "-o", "f.png")
    assert (commands.folder / "f.png").stat().st_size > 10_000

    told = json.loads(commands.run("compare", "one", "two", "--json").stdout)
    assert told["difference"] == pytest.approx(-100.0)
    assert told["verdict"] == (
        "one and two cannot be told apart on these seeds: 3 and 3 come to no p below 0.1"
    )
    twice = commands.run("compare", "one", "two", "one", code=2)
    assert "'one' is compared with itself" in twice.error_line
    alone = commands.run("compare", "one", code=2)
    assert "name two studies or more" in alone.error_line


def test_a_replaced_final_trial_counts_as_the_final_stage(database: Database) -> None:
    finished(database, "one", fresh=200.0)
    read = data.read(database, studies.find(database, "one"))
    replaced = replace(read, final=read.final[1:])
    assert [kind.kind for kind in account(replaced)] == [kind.kind for kind in account(read)]
