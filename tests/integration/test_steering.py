"""The commands that steer a study: what they say, and what they refuse."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import URL, text

from coordinator.answer import race_told
from coordinator.create import create_or_join
from coordinator.monitoring.notices import Notices
from coordinator.status import as_dict, snapshot
from coordinator.watch import step
from tests.support.commands import command, told
from tests.support.server import plain
from tests.support.studies import (
    create,
    finish,
    take,
    take_all,
    train_by_hand,
    trivial_spec,
    trivial_study,
)
from trialfleet.cli.show.display import make_display, summary
from trialfleet.store import studies
from trialfleet.store.steering import course
from trialfleet.store.storage import Database


@pytest.fixture(autouse=True)
def environment(database_url: URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)


def test_a_study_that_is_stopped_with_nothing_completed_is_said_to_fail(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database)
    assert command("stop", "trivial") == 0
    assert capsys.readouterr().out == (
        "trivial: the search ends with 0 trials; none is complete, so the study fails; "
        "`trialfleet extend trivial --trials N` gives it more\n"
    )
    assert step(database, "trivial").stage == "failed"


def test_a_study_is_stopped(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    study = create(database)
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    take(database)
    assert command("stop", "trivial", "--reason", "good enough") == 0
    assert capsys.readouterr().out == (
        "trivial: the search ends with 1 trial and 1 under way, which runs to the end; "
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


def test_another_number_of_trials_names_the_command_that_changes_it(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database, trials=4)
    file = tmp_path / "study.toml"
    file.write_text(trivial_study(trials=4))
    for wanted, words in ((8, "extend trivial --trials 8"), (2, "stop trivial")):
        for name in ("submit", "coordinate"):
            assert command(name, "study.toml", "--set", f"search.trials={wanted}") == 2
            assert f"(`trialfleet {words}` changes that)" in told(capsys)
    given = ["--set", "search.trials=8", "--set", "seed=4"]
    assert command("submit", "study.toml", *given) == 2
    assert "extend" not in told(capsys)


def test_a_study_that_searches_nothing_is_refused(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.toml"
    for text_of, words in (
        ('name = "x"\n[agent]\ngamma = 0.99\n', "agent: searches nothing, so all 50 trials"),
        ('name = "x"\n[task]\nobjective = "json:loads"\n[parameters]\nx = 1\n', "parameters: "),
    ):
        file.write_text(text_of)
        for name in ("check", "run", "submit", "coordinate"):
            assert command(name, "study.toml", "--set", "search.trials=50") == 2
            assert words in told(capsys)
    file.write_text('name = "x"\n[agent]\ngamma = 0.99\n')
    assert command("submit", "study.toml", "--set", "search.trials=1") == 0
    assert studies.find_all(database)[0].spec.search.trials == 1


def test_a_paused_study_has_no_time_left(database: Database) -> None:
    study = create(database)
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    take(database)
    with database.transaction() as connection:
        connection.execute(
            text("""
                INSERT INTO fleet.workers (worker, study, host, pid, version, trial_number, step,
                    steps_per_second, seen_at)
                VALUES ('w', 'trivial', 'here', 1, '0', 1, 8, 10, now())
            """)
        )
    assert snapshot(database, study).eta is not None
    course.pause(database, study)
    shot = snapshot(database, studies.find(database, "trivial"))
    assert shot.eta is None
    assert "left" not in summary(shot)


def test_the_status_of_a_study_that_is_done_is_its_answer(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    study = create(database, trials=2, top=1, final_seeds=2)
    for score in (300.0, 10.0):
        for claim in take_all(database):
            train_by_hand(database, study, claim, scores=[score + claim.number] * 2)
        step(database, "trivial")
    assert command("status", "trivial") == 0
    shown = capsys.readouterr().out
    assert "winner: trial 1, mean 10.0 over 2 fresh seeds" in shown
    assert "best" not in shown


def test_a_trial_of_the_final_stage_is_named_with_that_of_the_search(database: Database) -> None:
    study = create(database, trials=2, top=1, final_seeds=2)
    shown = io.StringIO()
    display = make_display(Console(file=shown, width=200), database, study)
    for _ in range(2):
        for claim in take_all(database):
            train_by_hand(database, study, claim, scores=[1.0 + claim.number] * 2)
        display.update()
        step(database, "trivial")
    assert "final trial 0 (of trial 1) COMPLETE" in shown.getvalue()


def test_fewer_finalists_than_asked_for_say_why(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    study = create(database, trials=3, top=3, race=True, final_seeds=2, train_steps=32)
    for claim in take_all(database):
        if claim.number == 2:
            finish(database, claim, state="PRUNED")
        else:
            train_by_hand(database, study, claim, scores=[1.0 + claim.number] * 2)
    step(database, "trivial")
    assert "fewer finalists than final.top: no more configurations" in capsys.readouterr().out
    while not (study := step(database, "trivial")).ended:
        for claim in take_all(database):
            train_by_hand(database, study, claim, scores=[1.0 + claim.number] * 2)
    assert study.result is not None
    assert "final.top is 3, but no more configurations were completed that differ" in race_told(
        study.result
    )
