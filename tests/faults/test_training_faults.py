"""Training that goes wrong in the trial itself: row 18 of the faults."""

from __future__ import annotations

import json
import math

import pytest

from coordinator.final import search_finalists
from coordinator.status import finished, snapshot
from tests.faults.fleet import SEGMENT, STUDY, Fleet
from tests.faults.processes import eventually
from tests.support.commands import command
from tests.support.server import plain
from tests.support.studies import states
from trialfleet.store import studies

REASON = """
    SELECT a.value_json FROM public.trial_user_attributes a JOIN public.trials t USING (trial_id)
    WHERE t.number = 0 AND a.key = 'reason'
"""
WORDS = {
    "nan": "NonFiniteError: agent ",
    "huge": "NonFiniteError: agent ",
    "raise": "RuntimeError: boom '; DROP TABLE trials; -- ",
    "exit": "SystemExit: 0 (environments.py:",
    "interrupt": "KeyboardInterrupt: ",
}


def one_clean_line(text: str) -> bool:
    """Whether a terminal shows the text as it is."""
    return text.isprintable() and "\n" not in text


@pytest.mark.parametrize(
    # In the default run, the last test here has the infinite loss.
    "word",
    ["nan", pytest.param("huge", marks=pytest.mark.slow), "raise", "exit", "interrupt"],
)
def test_18_the_trial_fails_with_its_reason_and_the_worker_lives(fleet: Fleet, word: str) -> None:
    study = fleet.create(trials=2)
    worker = fleet.worker(steer="slow")
    first = fleet.claimed(worker)
    # It has done well so far: what it reported must not make it the best.
    fleet.trained(first.trial_id)
    worker.steer(word)
    eventually(lambda: fleet.state(first.trial_id) == "FAIL", f"the trial fails of {word}")
    worker.steer("")
    ended = fleet.ends()
    assert worker.ends() == 0, worker.output

    # A failed trial is replaced; others that began before the environment was well again are too.
    outcomes = states(fleet.database, study.search_id)
    assert outcomes[0] == (0, "FAIL")
    assert [state for _, state in outcomes].count("COMPLETE") == 2
    assert {attempt.worker for attempt in fleet.attempts()} == {first.worker}
    assert fleet.outcomes(0) == ["finished"]

    [row] = fleet.rows(REASON)
    reason = json.loads(row.value_json)
    assert reason.startswith(WORDS[word])
    assert one_clean_line(reason)
    assert 2 * SEGMENT <= max(fleet.curve(first.trial_id)) < SEGMENT * 24
    assert fleet.checkpoint(first.trial_id) is None

    # Nor is it, or what it wrote, anything's best.
    trial = fleet.database.optuna_study(STUDY).get_trials()[0]
    assert trial.value is None
    assert trial.user_attrs["attempts"] == 1
    trace = trial.user_attrs["traceback"]
    assert trace.startswith("Traceback (most recent call last)")
    assert WORDS[word].partition(":")[0] in trace
    assert len(trace) <= 20_000
    completed = {number for number, state in outcomes if state == "COMPLETE"}
    best = snapshot(fleet.database, ended).best
    assert best is not None
    assert best[0] in completed
    assert math.isfinite(best[1])
    assert abs(best[1]) < 1e6
    assert {each.number for each in search_finalists(fleet.database, ended)} <= completed
    assert ended.result is not None
    assert ended.result["model"]["search_trial"] in completed


def test_18_nasty_text_is_told_escaped_wherever_it_is_shown(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.create(trials=2, max_failures=1)
    worker = fleet.worker(steer="raise")
    # The reason travels on: into the study's own row, the coordinator's error and the displays.
    coordinator = fleet.coordinator(trials=2, max_failures=1)
    assert coordinator.ends() == 4, coordinator.output
    assert worker.ends() == 0, worker.output
    ended = studies.find(fleet.database, STUDY)
    assert ended.stage == "failed"
    assert ended.reason is not None
    told = [each.reason or "" for each in finished(fleet.database, ended.search_id)]
    assert len(told) == 2
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(fleet.url))
    assert command("status", STUDY) == 0
    assert command("status", STUDY, "--json") == 0
    # Every plain word of it is there, in a form that breaks nothing.
    for text in (*told, ended.reason, coordinator.output, worker.output, capsys.readouterr().out):
        assert all(map(one_clean_line, text.splitlines())), ascii(text)
    for text in (*told, ended.reason, coordinator.output, worker.output):
        assert "DROP TABLE trials" in text
        assert "<script>alert(1)</script>" in text
        # The log quotes what holds a blank, and doubles its backslashes.
        assert r"-- \x00 [/red]" in text.replace("\\\\", "\\")
        assert r"\u202e \ud800 \x1b[31m" in text.replace("\\\\", "\\")
        assert "Traceback" not in text


def test_18_nothing_that_is_not_finite_becomes_a_result(fleet: Fleet) -> None:
    # From the very first step on, so that there is nothing but the bad.
    study = fleet.create(trials=2, max_failures=3)
    workers = [fleet.worker(steer=word) for word in ("nan", "huge")]
    coordinator = fleet.coordinator(trials=2, max_failures=3)
    assert coordinator.ends() == 4, coordinator.output
    for worker in workers:
        assert worker.ends() == 0, worker.output
    assert {state for _, state in states(fleet.database, study.search_id)} == {"FAIL"}
    assert "not finite" in coordinator.output
    assert fleet.rows("SELECT value FROM public.trial_values") == []


def reason(fleet: Fleet) -> str:
    [row] = fleet.rows(REASON)
    return str(json.loads(row.value_json))


def test_18_a_step_that_never_returns_fails_its_trial_and_ends_its_worker(fleet: Fleet) -> None:
    fleet.create(trials=1, stall_seconds=1.0)
    stuck = fleet.worker(steer="slow")
    first = fleet.claimed(stuck)
    fleet.trained(first.trial_id)
    stuck.steer("block")
    assert stuck.ends() == 7, stuck.output
    assert fleet.state(first.trial_id) == "FAIL"
    assert fleet.outcomes(0) == ["finished"]
    assert reason(fleet).startswith(
        "the trainer did not return within task.stall_seconds = 1; it was in"
    )
    assert "(environments.py:" in reason(fleet)
    assert one_clean_line(reason(fleet))
    # Who supervises it starts another.
    another = fleet.worker()
    fleet.ends()
    assert another.ends() == 0, another.output


def test_18_a_trial_that_takes_too_long_fails_and_the_worker_lives(fleet: Fleet) -> None:
    fleet.create(trials=1, max_seconds=1.0)
    worker = fleet.worker(steer="slow")
    first = fleet.claimed(worker)
    eventually(lambda: fleet.state(first.trial_id) == "FAIL", "the trial is over its time")
    fleet.claimed(worker, number=1)
    assert reason(fleet).startswith("TimeLimitError: not done after 1 s, which is task.max_seconds")


def test_18_every_environment_is_closed_also_that_of_a_trial_that_fails(fleet: Fleet) -> None:
    fleet.create(trials=1)
    lives = fleet.folder / "lives"
    worker = fleet.worker(steer="slow", FAULTS_LIVES=str(lives))
    first = fleet.claimed(worker)
    fleet.trained(first.trial_id)
    worker.steer("raise")
    eventually(lambda: fleet.state(first.trial_id) == "FAIL", "the trial fails")
    worker.steer("")
    fleet.ends()
    assert worker.ends() == 0, worker.output
    lines = lives.read_text(encoding="utf-8").split()
    assert lines.count("made") == lines.count("closed") > 0
