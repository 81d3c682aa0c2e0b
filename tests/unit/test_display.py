"""What people see of a study: one line, a picture, and the finalists' table."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from coordinator.status import Snapshot, as_dict
from tests.support.studies import trivial_spec
from trialfleet.cli.show.display import duration, picture, result_report, summary
from trialfleet.store.studies import Study
from trialfleet.store.trials.reading import Counts
from trialfleet.store.workers import LiveWorker


def study(**changes: Any) -> Study:
    spec = trivial_spec(trials=10, train_steps=3_200)
    fields: dict[str, Any] = {
        "name": "trivial",
        "search_id": 1,
        "final_id": None,
        "stage": "search",
        "stored": spec.to_json(),
        "digest": spec.digest,
        "version": "1",
        "compatibility": 1,
        "budget": 10,
        "max_failures": 10,
        "artifacts": "database",
        "result": None,
        "reason": None,
        "seconds": 75.0,
    }
    return Study(**{**fields, **changes})


def counts(**states: int) -> Counts:
    zero = dict.fromkeys(("complete", "pruned", "failed", "running", "waiting"), 0)
    return Counts(**{**zero, **states})


def line(name: str, **changes: Any) -> LiveWorker:
    fields: dict[str, Any] = {
        "name": name,
        "host": "here",
        "trial": 4,
        "step": 1_600,
        "steps_per_second": 1_000.0,
        "silent": 2.0,
    }
    return LiveWorker(**{**fields, **changes})


def shot(**changes: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "study": study(),
        "search": counts(complete=3, pruned=2, failed=1, running=2, waiting=1),
        "final": None,
        "final_trials": 4,
        "best": (2, 123.45),
        "workers": [line("one"), line("two", steps_per_second=234.0)],
        "eta": 200.0,
    }
    return Snapshot(**{**fields, **changes})


def drawn(renderable: RenderableType, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3_599.4, "59 min 59 s"),
        (3_599.6, "1 h 00 min"),
        (7_800, "2 h 10 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_study_in_one_line() -> None:
    assert summary(shot()) == (
        "trivial: 5/10 trials | 3 complete, 2 pruned, 1 failed, 2 running | "
        "best 123.5 (trial 2) | 1,234 steps/s | about 3 min 20 s left"
    )


def test_a_study_that_has_just_begun_in_one_line() -> None:
    new = shot(search=counts(), best=None, workers=[], eta=None)
    assert summary(new) == ("trivial: 0/10 trials | 0 complete, 0 pruned, 0 failed, 0 running")


def test_the_final_stage_in_one_line() -> None:
    final = shot(final=counts(complete=1, running=2, waiting=1), workers=[], eta=None)
    assert "final stage 1/4" in summary(final)


def test_the_picture_shows_every_count_and_every_worker() -> None:
    shown = drawn(picture(shot()))
    for words in (
        "trivial  search  1 min 15 s",
        "5/10",
        "3 complete  2 pruned  1 failed  2 running  1 waiting",
        "0/4",
        "best 123.5 (trial 2)",
        "1,234 agent-steps/s",
        "about 3 min 20 s left",
        "1,600/3,200",
        "2 s ago",
    ):
        assert words in shown
    assert len(shown.splitlines()) == 7


def test_an_idle_worker_is_shown_as_one() -> None:
    shown = drawn(picture(shot(workers=[line("one", trial=None, step=0, steps_per_second=0.0)])))
    assert "idle" in shown
    assert "/3,200" not in shown


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_narrow_terminal_breaks_nothing(width: int) -> None:
    for row in drawn(picture(shot()), width=width).splitlines():
        assert len(row) <= width


def test_a_narrow_terminal_shows_every_fact_all_the_same() -> None:
    shown = " ".join(drawn(picture(shot()), width=40).split())
    for words in (
        "search 5/10 3 complete 2 pruned 1 failed 2 running 1 waiting",
        "worker one, trial 4, step 1,600/3,200, agent-steps/s 1,000, last heard 2 s ago",
    ):
        assert words in shown
    report = drawn(result_report(study(stage="done", result=result())), width=40)
    told = " ".join(report.split())
    assert "winner, trial 7, search score 400.0, fresh mean 415.0, 95% interval" in told
    assert "410.0 … 420.0, gap -15.0" in told


def test_a_name_that_looks_like_markup_is_shown_as_it_is() -> None:
    odd = line("[bold]worker[/nothing]")
    assert "[bold]worker[/nothing]" in drawn(picture(shot(workers=[odd])))


def test_a_snapshot_as_json_is_plain_data() -> None:
    told = as_dict(shot(final=counts(complete=1)))
    assert told["search"]["counted"] == 5
    assert told["final"]["complete"] == 1
    assert told["best"] == {"trial": 2, "score": 123.45}
    assert [worker["name"] for worker in told["workers"]] == ["one", "two"]
    assert told["steps_per_second"] == 1_234.0


def result() -> dict[str, Any]:
    params = dict.fromkeys(trivial_spec().agent, 0.123456)
    won = {
        "rank": 1,
        "trial": 7,
        "search_score": 400.0,
        "params": params,
        "failures": [],
        "scores": [410.0, 420.0],
        "seeds": [1, 3],
        "mean": 415.0,
        "interval": [410.0, 420.0],
        "gap": -15.0,
        "area": 100.0,
    }
    burned = {
        "rank": 0,
        "trial": 3,
        "search_score": 500.0,
        "params": params,
        "failures": ["it burned", "and again"],
    }
    model = {
        "search_trial": 7,
        "configuration_mean": 415.0,
        "configuration_scores": [410.0, 420.0],
        "episodes": 150,
        "seed": 3,
        "score": 420.0,
    }
    return {"winner": 1, "finalists": [burned, won], "model": model}


def test_the_result_names_the_winner_and_why_others_failed() -> None:
    shown = drawn(result_report(study(stage="done", result=result())))
    (winner,) = [row for row in shown.splitlines() if "winner " in row and "415.0" in row]
    assert " 7 " in winner
    assert "410.0 … 420.0" in winner
    assert "-15.0" in winner
    assert "failed: it burned" in shown
    assert "winner: trial 7, mean 415.0 over 2 fresh seeds × 150 episodes" in shown
    assert "best agent: seed 3, mean 420.0 over 150 episodes" in shown
    # The searched knobs only.
    assert "trial 7: learning_rate=0.1235, gamma=0.1235\n" in shown.replace("  ", "")
