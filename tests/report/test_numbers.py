"""What the report counts and compares, and what it writes for other programs."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from coordinator.report import export, facts
from coordinator.report.account import account
from coordinator.report.comparison import compare_studies
from coordinator.report.difference import compare
from coordinator.report.studyfile import as_toml
from tests.support.studyfiles import EXAMPLE
from tests.support.told import IMAGE, told
from trialfleet.errors import UsageError
from trialfleet.study.file import parse

ROOT = Path(__file__).resolve().parents[2]
DATA = told()


def test_the_account_says_what_became_of_every_attempt() -> None:
    # Of 24 trials 3 failed, 6 were pruned and 15 completed, 3 of these after a lost attempt.
    found = {entry.kind: entry for entry in account(DATA)}
    assert list(found) == ["completed", "pruned", "failed", "final", "lost"]
    assert {kind: entry.attempts for kind, entry in found.items()} == {
        "completed": 15,
        "pruned": 6,
        "failed": 3,
        "final": 3,
        "lost": 3,
    }
    assert found["completed"].agent_steps == 15 * 2 * 1_000
    assert found["pruned"].agent_steps == 6 * 2 * 500
    assert found["final"].agent_steps == 3 * 6 * 1_000
    assert found["lost"].agent_steps == 3 * 2 * 500
    assert found["lost"].worker_seconds == pytest.approx(9.0)
    assert found["completed"].worker_seconds == pytest.approx(135.0)


def test_steps_of_an_attempt_that_was_given_back_are_counted_once() -> None:
    attempt = DATA.attempts[0]
    back = replace(attempt, outcome="released", step=500)
    running = replace(attempt, outcome="open", number=999, step=250)
    found = {entry.kind: entry for entry in account(replace(DATA, attempts=[back, running]))}
    assert found["given back"].agent_steps == 0
    assert found["given back"].worker_seconds > 0
    assert found["under way"].agent_steps == 500


def test_an_exact_test_counts_every_division() -> None:
    found = compare([4.0, 5.0, 6.0], [1.0, 2.0, 3.0])
    # Two of the 20 ways to divide six scores are as far apart.
    assert (found.p, found.exact) == (0.1, True)
    assert found.difference == 3.0
    assert found.low < 3.0 < found.high
    assert found.told_apart
    other = compare([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert (other.difference, other.p) == (-3.0, 0.1)
    assert "exact" in found.method


def test_equal_scores_cannot_be_told_apart() -> None:
    found = compare([500.0] * 10, [500.0] * 10)
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert not found.told_apart


def test_more_seeds_are_divided_at_random_the_same_way_each_time() -> None:
    a, b = [float(n % 7) for n in range(20)], [float(n % 7) + 4 for n in range(20)]
    found = compare(a, b)
    assert not found.exact
    assert found.p < 0.001
    assert compare(a, b) == found
    assert "random divisions" in found.method


def test_studies_are_compared_by_their_winners() -> None:
    first, second = told().study, replace(told(lift=100.0).study, name="lifted")
    found = compare_studies(first, second)
    assert found.difference.difference == pytest.approx(-100.0)
    assert found.verdict == "lifted is better than told by 100.0"
    assert found.as_dict()["told_apart"] is True
    assert found.unlike == []
    same = compare_studies(first, replace(first, name="twin"))
    assert same.verdict == "told and twin cannot be told apart on these seeds"


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="'running' has no winner on fresh seeds"):
        compare_studies(DATA.study, replace(told(stage="search").study, name="running"))
    with pytest.raises(UsageError, match="compared with itself"):
        compare_studies(DATA.study, DATA.study)


def test_other_tasks_are_named() -> None:
    other = DATA.study.stored.replace('"train_steps":1000', '"train_steps":2000')
    assert other != DATA.study.stored
    found = compare_studies(DATA.study, replace(DATA.study, name="other", stored=other))
    assert found.unlike == ["task.train_steps: 1000 and 2000"]


TABLES = """
name = "x"
[task]
env_args = { gravity = { "9.8 m" = 1 } }
[agent]
gamma = { low = 0.9, high = 0.99 }
[[constraints]]
measure = "parameters"
at_most = 5_000
[[constraints]]
measure = "steps_to_475"
at_most = 20_000
over_seeds = "worst"
[[enqueue]]
gamma = 0.95
"""


@pytest.mark.parametrize(
    "text",
    [
        EXAMPLE,
        TABLES,
        *(path.read_text(encoding="utf-8") for path in (ROOT / "studies").glob("*.toml")),
    ],
)
def test_a_study_becomes_its_file_again(text: str) -> None:
    spec = parse(text, source="x.toml")
    assert parse(as_toml(spec), source="again.toml") == spec


def test_the_csv_has_a_row_for_each_trial() -> None:
    rows = list(csv.DictReader(StringIO(export.as_csv(DATA))))
    assert len(rows) == len(DATA.search) + len(DATA.final)
    assert [row["number"] for row in rows[:24]] == [str(trial.number) for trial in DATA.search]
    best = DATA.complete[0]
    row = rows[best.number]
    assert float(row["value"]) == best.values[0]
    assert float(row["param.gamma"]) == best.params["gamma"]
    assert row[f"param.{IMAGE}"] == best.params[IMAGE]
    assert rows[4]["reason"].startswith("median at step 500")
    assert rows[3]["state"] == "FAIL"


def test_no_text_in_the_csv_is_a_formula() -> None:
    trial = told().search[3]
    trial.user_attrs["reason"] = '=HYPERLINK("http://x")'
    written = export.as_csv(replace(DATA, search=[trial]))
    assert next(csv.DictReader(StringIO(written)))["reason"].startswith("'=HYPERLINK")


def test_the_json_is_the_whole_study() -> None:
    data = told()
    data.returns[0][0] = (250, [math.nan, 1.0])
    whole = json.loads(export.as_json(data))
    assert whole["result"]["winner"] == (data.study.result or {})["winner"]
    assert [trial["number"] for trial in whole["search"]] == list(range(24))
    assert whole["search"][0]["returns"]["250"] == [None, 1.0]
    assert len(whole["attempts"]) == len(data.attempts)
    assert whole["audit"]["trained"] == 3
    assert {entry["kind"] for entry in whole["account"]} >= {"lost", "pruned", "final"}


def test_the_checklist_tells_tuning_seeds_from_test_seeds() -> None:
    rows = dict(facts.checklist(DATA))
    tuning = [int(word) for word in rows["Tuning seeds"].split("trial 0: ")[1].split(", ")]
    assert all(seed % 2 == 0 for seed in tuning)
    assert rows["Tuning budget"].startswith("24 trials of 2 agents, at most 48,000 agent-steps")
    assert "not trained yet" in dict(facts.checklist(told(stage="search")))["Test seeds"]
    assert "none was trained" in dict(facts.checklist(told(stage="failed")))["Test seeds"]
