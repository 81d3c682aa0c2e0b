"""What people see of a study: one line, a picture, and the finalists' table."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console, RenderableType

from coordinator.status import Failure, Snapshot, as_dict, segment, time_left
from tests.support.studies import trivial_spec
from trialfleet.cli.check import study_report
from trialfleet.cli.show.display import summary
from trialfleet.cli.show.outcome import result_report
from trialfleet.cli.show.picture import duration, picture
from trialfleet.cli.trying import Tried
from trialfleet.store.studies import Study
from trialfleet.store.trials.reading import Counts
from trialfleet.store.workers import LiveWorker
from trialfleet.study.file import parse

OWN = """
name = "own"
[task]
objective = "mine:train"
train_steps = 3_200
eval_every = 1_600
[parameters]
x = { low = 0.0, high = 1.0 }
"""


def study(*, spec_fields: Mapping[str, Any] | None = None, **changes: Any) -> Study:
    spec = trivial_spec(trials=10, train_steps=3_200, eval_every=1_600, **(spec_fields or {}))
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
        "final_most": 9,
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


def test_a_race_has_at_most_so_many_trials_however_many_are_there() -> None:
    racing = study(spec_fields={"race": True}, stage="final")
    assert "final stage 1 of at most 9" in summary(shot(study=racing, final=counts(complete=1)))
    ended = study(spec_fields={"race": True}, stage="failed")
    assert "final stage 1/4" in summary(shot(study=ended, final=counts(complete=1)))


def test_a_study_that_failed_in_its_search_had_no_final_stage() -> None:
    failed = drawn(
        picture(shot(study=study(stage="failed", reason="11 trials failed"), final=None))
    )
    assert [" ".join(line.split()) for line in failed.splitlines() if line.startswith("final")] == [
        "final none"
    ]


def test_check_counts_one_step_and_one_observation_as_one() -> None:
    every_step = parse(OWN.replace("1_600", "1"), source="own.toml")
    assert "reported every step" in drawn(study_report(every_step, None))
    assert "(pruning saves some)" in drawn(study_report(every_step, None))
    unpruned = study_report(trivial_spec(), None)
    assert trivial_spec().search.pruner.name == "none"
    assert "pruning" not in drawn(unpruned)
    tried = Tried(observation_size=1, actions=2, max_episode_steps=40)
    assert "1 observation, 2 actions" in drawn(study_report(trivial_spec(), tried))


def test_what_is_trained_by_a_function_has_no_agents() -> None:
    spec = parse(OWN, source="own.toml")
    shown = drawn(picture(shot(study=study(stored=spec.to_json(), digest=spec.digest))))
    assert "agent" not in shown
    assert "1,234 steps/s" in shown


def test_the_picture_shows_every_count_and_every_worker() -> None:
    shown = drawn(picture(shot()))
    for words in (
        "trivial  search  1 min 15 s",
        "5/10",
        "3 complete  2 pruned  1 failed  2 running  1 waiting",
        "0 of at most 9",
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
        "worker one, trial 4, segment 2/2, step 1,600/3,200, agent-steps/s 1,000, "
        "last heard 2 s ago",
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
    assert set(told) == {
        "study", "stage", "budget", "seconds", "reason", "search", "final", "final_trials", "best",
        "closest", "objectives", "workers", "steps_per_second", "eta", "attempts_lost", "failures",
        "priority", "paused", "stopped", "imported", "former_finals", "race",
    }  # fmt: skip


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


def test_the_picture_shows_what_was_lost_and_why_trials_failed() -> None:
    failures = [
        Failure(stage="final", number=1, reason=None),
        Failure(stage="search", number=6, reason="RuntimeError: \x1b[2Jboom (env.py:3)"),
    ]
    shown = drawn(picture(shot(lost=3, failures=failures)))
    for words in (
        "attempts lost with their workers: 3",
        "final trial 1 failed: no reason",
        "search trial 6 failed: RuntimeError: \\x1b[2Jboom (env.py:3)",
    ):
        assert words in shown
    ended = drawn(picture(shot(study=study(stage="failed", reason="11 trials failed"))))
    assert "11 trials failed" in ended


TASK = trivial_spec(seeds=2, train_steps=1_000, eval_every=100).task


@pytest.mark.parametrize(
    ("left", "seconds", "workers", "told"),
    [
        # Ten trials of 30 s by two workers.
        ([10, 0], [30.0, None], [line("one", trial=None), line("two", trial=None)], 150.0),
        # One of them is half done.
        ([10, 0], [30.0, None], [line("one", trial=0, step=500), line("two", trial=None)], 142.5),
        # More workers than trials: nobody helps with the last ones.
        ([2, 0], [30.0, None], [line(str(n), trial=None) for n in range(8)], 30.0),
        # The final stage after the search, at its own length, or at the search's until it is known.
        ([2, 4], [30.0, 60.0], [line("one", trial=None), line("two", trial=None)], 150.0),
        ([0, 4], [30.0, None], [line("one", trial=None), line("two", trial=None)], 60.0),
        # Nothing has ended, but the pace is known: 2,000 agent-steps at 200 and 600 a second.
        (
            [4, 0],
            [None, None],
            [
                line("one", trial=0, step=0, steps_per_second=200.0),
                line("two", trial=1, step=0, steps_per_second=600.0),
            ],
            10.0,
        ),
        ([4, 0], [None, None], [line("one", trial=None, steps_per_second=0.0)], None),
        ([4, 0], [30.0, None], [], None),
        ([0, 0], [30.0, 30.0], [line("one", trial=None)], 0.0),
    ],
)
def test_the_time_left_is_of_all_workers(
    left: list[int], seconds: list[float | None], workers: list[LiveWorker], told: float | None
) -> None:
    assert time_left(TASK, left, seconds, workers) == (
        None if told is None else pytest.approx(told)
    )


def test_a_worker_is_in_a_segment_counted_from_1() -> None:
    assert [segment(TASK, step) for step in (0, 99, 100, 999, 1_000)] == [1, 1, 2, 10, 10]
    told = as_dict(shot(study=study(), workers=[line("one"), line("two", trial=None)]))
    assert [(each["segment"], each["segments"]) for each in told["workers"]] == [(2, 2), (None, 2)]
