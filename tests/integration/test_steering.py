"""The commands that steer a study: what they say, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL, text

from coordinator.create import create_or_join
from coordinator.monitoring.notices import Notices
from coordinator.status import as_dict, snapshot
from coordinator.watch import step
from tests.support.commands import command, told
from tests.support.server import plain
from tests.support.studies import create, take, take_all, train_by_hand, trivial_spec
from trialfleet.cli.show.display import summary
from trialfleet.store import studies
from trialfleet.store.steering import course
from trialfleet.store.storage import Database


@pytest.fixture(autouse=True)
def environment(database_url: URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)


def test_a_study_is_stopped(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    study = create(database)
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    take(database)
    assert command("stop", "trivial", "--reason", "good enough") == 0
    assert capsys.readouterr().out == (
        "trivial: the search ends with 1 trials once 1 under way have ended; "
        "the final stage comes next\n"
    )
    study = studies.find(database, "trivial")
    line = "the search is being stopped: good enough"
    assert summary(snapshot(database, study)).endswith(f" | {line}")
    assert as_dict(snapshot(database, study))["stopped"] == "good enough"
    assert command("status", "trivial") == 0
    assert line in capsys.readouterr().out
    assert command("stop", "trivial", "--now") == 0
    assert step(database, "trivial").stage == "final"
    capsys.readouterr()
    assert command("stop", "trivial") == 2
    assert "the search of 'trivial' is over (it is at 'final')" in told(capsys)


def test_a_stop_is_told_once(database: Database) -> None:
    study = create(database, trials=1, top=1)
    sent: list[str] = []
    notices = Notices(database, lambda notice: sent.append(notice["text"]))
    notices.begin("trivial")
    notices.look(study)
    course.stop(database, study, "good enough")
    for _ in range(2):
        notices.look(studies.find(database, "trivial"))
    assert sent[1:] == ["trivial: the search ends early: good enough"]


def test_the_end_of_an_extended_study_is_told_again(database: Database) -> None:
    study = create(database, trials=1, top=1, final_seeds=1, seeds=1)
    sent: list[str] = []
    notices = Notices(database, lambda notice: sent.append(notice["event"]))
    notices.begin("trivial")
    for trials in (2, 3):
        while not (study := step(database, "trivial")).ended:
            for claim in take_all(database):
                train_by_hand(database, study, claim, scores=[float(claim.number)])
        notices.look(study)
        notices.look(course.extend(database, study, trials))
    assert sent.count("end") == 2


def test_a_study_is_extended(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    create(database)
    assert command("extend", "trivial", "--trials", "9") == 0
    assert capsys.readouterr().out == "trivial: 9 trials in all\n"
    assert studies.find(database, "trivial").budget == 9
    assert command("extend", "trivial", "--trials", "9") == 2
    line = told(capsys)
    assert line.startswith("trialfleet: --trials: 9 is not more than the 9 that 'trivial' has; ")


def test_a_study_is_paused_and_resumed(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database)
    assert command("pause", "trivial") == 0
    study = studies.find(database, "trivial")
    assert study.paused
    assert "paused: no trial begins until it is resumed" in summary(snapshot(database, study))
    assert command("resume", "trivial") == 0
    assert not studies.find(database, "trivial").paused
    assert "resumed" in capsys.readouterr().out


def test_a_study_is_deleted_with_all_that_was_stored_of_it(
    database: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    spec = trivial_spec(trials=1, top=1, final_seeds=1, seeds=1)
    study = create_or_join(database, spec, artifacts=store.as_uri())
    while not (study := step(database, "trivial")).ended:
        for claim in take_all(database):
            train_by_hand(database, study, claim, scores=[1.0])
    assert len([*store.iterdir()]) > 1
    capsys.readouterr()
    assert command("delete", "trivial") == 2
    assert "there is nobody to ask: say --yes to delete the study" in told(capsys)
    assert studies.find(database, "trivial").ended
    assert command("delete", "trivial", "--yes") == 0
    assert capsys.readouterr().out == "trivial: deleted\n"
    assert studies.find_all(database) == []
    assert [*store.iterdir()] == []
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM trials")) == 0


@pytest.mark.parametrize(
    "arguments",
    [("stop",), ("extend", "--trials", "9"), ("pause",), ("resume",), ("delete", "--yes")],
)
def test_an_unknown_study_is_named(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = arguments
    assert command(name, "nothing", *options) == 2
    assert "no study is called 'nothing'" in told(capsys)
