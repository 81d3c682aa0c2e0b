"""What the report counts and compares, and what it writes for other programs."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from coordinator.report import export, facts
from coordinator.report.account import account
from coordinator.report.comparison import compare_studies
from coordinator.report.difference import compare, holm
from coordinator.report.studyfile import as_toml
from tests.support.studies import trivial_spec
from tests.support.studyfiles import EXAMPLE
from tests.support.told import IMAGE, told
from trialfleet.cli.show.comparison import table
from trialfleet.errors import SteeringError, UsageError
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
    # Three and three seeds tell nothing apart, however far their scores are.
    assert not found.told_apart
    other = compare([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert (other.difference, other.p) == (-3.0, 0.1)
    assert "exact" in found.method


def test_equal_scores_cannot_be_told_apart() -> None:
    found = compare([500.0] * 10, [500.0] * 10)
    assert (found.difference, found.p) == (0.0, 1.0)
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
    (pair,) = found.pairs
    assert pair.difference.difference == pytest.approx(-100.0)
    assert pair.verdict == "lifted is better than told by 100.0"
    stored = found.as_dict()
    assert stored["told_apart"] is True
    assert stored["p"] == pytest.approx(2 / 924)  # six and six seeds, all apart
    assert found.unlike == []
    same = compare_studies(first, replace(first, name="twin"))
    assert same.pairs[0].verdict == "told and twin cannot be told apart on these seeds"


def test_the_winner_of_a_fixed_stage_was_chosen_by_the_seeds_that_are_compared() -> None:
    fixed, raced = told().study, replace(told(race=True).study, name="raced")
    found = compare_studies(fixed, raced)
    assert found.chosen == ["told"]
    assert "chosen among finalists by these seeds" in found.warnings[-1]
    assert compare_studies(raced, replace(raced, name="again")).warnings == []


def test_of_several_studies_each_is_compared_with_every_other_and_p_corrected() -> None:
    studies = [replace(told(lift=lift).study, name=f"by-{lift:g}") for lift in (0.0, 1.0, 100.0)]
    found = compare_studies(*studies)
    alone = [
        compare_studies(*(studies[at] for at in pair)).pairs[0].difference.p
        for pair in ((0, 1), (0, 2), (1, 2))
    ]
    assert [pair.difference.p for pair in found.pairs] == pytest.approx(
        [alone[0], 3 * alone[1], 3 * alone[2]]
    )
    assert [pair.difference.told_apart for pair in found.pairs] == [False, True, True]
    assert "Corrected for 3 pairs (Holm 1979)" in found.method
    assert len(found.as_dict()["pairs"]) == 3
    assert "p" not in found.as_dict()
    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        console.print(table(found))
    assert "difference by-0 - by-100: -100.0, p = 0.0065" in captured.get()


def test_holms_correction_is_that_of_the_textbook() -> None:
    """Holm 1979; the example has the values of R's p.adjust."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_verdict_follows_p_alone() -> None:
    """A bootstrap of three seeds each would call these apart, whose p is 0.2."""
    a, b = [480.0, 490.0, 500.0], [300.0, 400.0, 482.0]
    found = compare(a, b)
    assert found.p == pytest.approx(0.2)
    assert not found.told_apart


def test_two_samples_of_one_population_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(0)
    for size in (2, 3, 5):
        apart = sum(
            compare(*rng.normal(0.0, 1.0, (2, size)).tolist()).told_apart for _ in range(300)
        )
        assert apart / 300 <= 0.05 + 0.02


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(SteeringError, match="'running' has no winner on fresh seeds"):
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
    assert facts._test_seeds(trivial_spec(top=1)).endswith(" for the finalist")
    assert "none was trained" in dict(facts.checklist(told(stage="failed")))["Test seeds"]
