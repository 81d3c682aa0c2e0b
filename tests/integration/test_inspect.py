"""`status` and `logs` on a study whose trials were run, lost, failed and pruned by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import URL, text

from tests.support.commands import command, told
from tests.support.server import plain
from tests.support.studies import create, expire, finish, take
from trialfleet.postgres.waiting import wait_until
from trialfleet.store import leases, workers
from trialfleet.store.storage import Database

Open = Callable[[], Database]

EVIL = '<script>alert(1)</script> "><img src=x onerror=alert(1)> \x1b[2J'
TRACE = f'Traceback (most recent call last):\n  File "env.py", line 3\nRuntimeError: {EVIL}\n'
PRUNED = {"rule": "median", "step": 8, "value": 1.5, "threshold": 4.5, "text": "median at step 8"}
WATCHES = text("SELECT 1 FROM pg_stat_activity WHERE application_name = 'trialfleet-status'")
END = text("UPDATE fleet.studies SET stage = :stage, reason = 'by hand', ended_at = now()")


@pytest.fixture(autouse=True)
def _environment(database_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    monkeypatch.setenv("TRIALFLEET_POLL_SECONDS", "0.05")
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def study(database: Database) -> str:
    """Trial 0 was lost once and failed, trial 1 was pruned, trial 2 runs; the budget is 4."""
    create(database)
    take(database, worker="first")
    expire(database)
    leases.reap(database, "trivial")
    again = take(database, worker="second")
    finish(database, again, state="FAIL", attributes={"reason": EVIL, "traceback": TRACE})
    pruned = take(database)
    finish(database, pruned, state="PRUNED", value=1.5, attributes={"pruned_by": PRUNED})
    running = take(database, worker="here-12-abc")
    workers.beat(
        database,
        {"worker": "here-12-abc", "study": "trivial", "host": "here", "pid": 12, "version": "1"},
        fence=running.fence,
        trial_number=running.number,
        step=8,
        steps_per_second=40.0,
    )
    return "trivial"


def test_status_tells_all_of_it(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("status", study) == 0
    shown = capsys.readouterr().out
    for words in (
        "1/4",
        "0 complete  1 pruned  1 failed  1 running  0 waiting",
        "attempts lost with their workers: 1",
        "search trial 0 failed: <script>alert(1)</script>",
        "here-12-abc",
        "1/1",
        "8/16",
        "about ",
    ):
        assert words in shown
    assert all(line.isprintable() for line in shown.splitlines())
    assert command("status", study, "--json") == 0
    one = json.loads(capsys.readouterr().out)
    assert (one["attempts_lost"], one["search"]["counted"], one["budget"]) == (1, 1, 4)
    assert one["failures"] == [{"stage": "search", "trial": 0, "reason": EVIL}]
    (worker,) = one["workers"]
    found = [worker[key] for key in ("host", "trial", "segment", "steps_per_second")]
    assert found == ["here", 2, 1, 40.0]
    assert command("status", "--json") == 0
    assert [each["study"] for each in json.loads(capsys.readouterr().out)] == [study]


@pytest.mark.parametrize(("stage", "code"), [("done", 0), ("failed", 4)])
def test_watching_ends_with_the_study(
    study: str, open_database: Open, capsys: pytest.CaptureFixture[str], stage: str, code: int
) -> None:
    other = open_database()

    def end() -> None:
        assert wait_until(lambda: bool(other.call(WATCHES)), 60, pause=0.02)
        with other.transaction() as connection:
            leases.abandon(connection, 1, "the study ended")
            connection.execute(END, {"stage": stage})

    with ThreadPoolExecutor() as pool:
        ended = pool.submit(end)
        assert command("status", study, "--watch") == code
        ended.result()
    captured = capsys.readouterr()
    assert "trivial: 1/4 trials" in captured.out
    assert ("study 'trivial' failed: by hand" in captured.err) == (stage == "failed")


def test_watching_is_for_people(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("status", study, "--watch", "--json") == 2
    assert "--watch is for people" in told(capsys)


def test_a_failed_trials_logs(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("logs", study, "0") == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == "trial 0 of trivial: FAIL"
    assert lines[1].startswith("failed: <script>alert(1)</script>")
    assert [[words[1], words[-1]] for line in lines[3:5] if (words := line.split())] == [
        ["first", "lost"],
        ["second", "finished"],
    ]
    assert '  File "env.py", line 3' in lines
    assert lines[-1] == f"RuntimeError: {EVIL[:-4]}\\x1b[2J"
    assert all(line.isprintable() for line in lines)
    assert command("logs", study, "0", "--json") == 0
    one = json.loads(capsys.readouterr().out)
    assert (one["traceback"], one["reason"]) == (TRACE, EVIL)
    assert [each["outcome"] for each in one["attempts"]] == ["lost", "finished"]
    assert one["attempts"][0]["ended"] <= one["attempts"][1]["began"]


def test_the_logs_of_a_pruned_trial_and_of_a_running_one(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("logs", study, "1") == 0
    shown = capsys.readouterr().out
    assert "trial 1 of trivial: PRUNED, score 1.50" in shown
    assert "pruned: median at step 8" in shown
    assert command("logs", study, "2") == 0
    shown = capsys.readouterr().out
    assert "trial 2 of trivial: RUNNING" in shown
    assert "running" in shown.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["logs", "trivial", "3"], "study 'trivial' has no trial 3; it has 0 to 2"),
        (["logs", "trivial", "0", "--final"], "study 'trivial' has no final stage yet"),
        (["logs", "other", "0"], "no study is called 'other'"),
        (["logs", "empty", "0"], "study 'empty' has no trial 0; it has none yet"),
    ],
)
def test_logs_of_what_is_not_there(
    study: str,
    database: Database,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    create(database, name="empty")
    assert command(*arguments) == 2
    assert says in told(capsys)
