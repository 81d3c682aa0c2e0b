"""Why trials were pruned, and what the pruning audit found, is shown where people look."""

from __future__ import annotations

import pytest
from rich.console import Console
from sqlalchemy import URL

from coordinator.watch import step
from tests.support.commands import command
from tests.support.server import plain
from tests.support.studies import create, finish, take, train_by_hand
from trialfleet.cli.show.display import PlainDisplay
from trialfleet.store.storage import Database

EVIL = "median at step 16: 1 < 5 [red]\n\x1b[31m"


def test_a_pruned_trial_says_why_and_the_audit_what_it_cost(
    database: Database,
    database_url: URL,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    monkeypatch.setenv("COLUMNS", "160")
    study = create(database, trials=3, top=1, final_seeds=2, audit=1.0)
    display = PlainDisplay(Console(width=160), database, study)
    for score, text in ((9.0, "median at step 16: 1 < 5"), (2.0, EVIL)):
        attributes = {"pruned_by": {"text": text}, "audit": {"score": score}}
        finish(database, take(database), value=1.0, state="PRUNED", attributes=attributes)
    train_by_hand(database, study, take(database), scores=[5.0, 5.0])
    capsys.readouterr()
    display.update()
    lines = capsys.readouterr().out.splitlines()
    assert "search trial 0 PRUNED 1.000 (median at step 16: 1 < 5)" in lines
    assert "search trial 1 PRUNED 1.000 (median at step 16: 1 < 5 [red]\\n\\x1b[31m)" in lines
    assert "search trial 2 COMPLETE 5.0" in lines
    step(database, study.name)
    train_by_hand(database, study, take(database), scores=[1.0, 1.0])
    step(database, study.name)
    for name in ("status", "best"):
        capsys.readouterr()
        assert command(name, study.name) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert (
            "pruning audit: 2 pruned trials trained to the end, 1 of them among the best 1, "
            "1 better than the best"
        ) in said
