"""The ways to an answer that benchmarks.answer compares, on a task whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.answer import strategies, synthetic
from benchmarks.answer.__main__ import Stage, gathered
from benchmarks.answer.seeds import SCHEDULES, Schedule
from benchmarks.answer.strategies import Told


def told(kind: str, study_seed: int) -> dict[str, Told]:
    task = synthetic.Task(kind, trials=30, agents=2, study_seed=study_seed)
    searched = task.searched([2, 4])
    fresh = task.fresh([*searched.truth], 40)
    raced = {"top": 4, "block": 2, "blocks": 4, "error": 0.05}
    return {
        "search": strategies.best_value(searched),
        "fixed": strategies.fixed(searched, fresh, top=2, seeds=8),
        "race": strategies.race(searched, fresh, **raced, confirm=0),  # type: ignore[arg-type]
        "confirmed": strategies.race(searched, fresh, **raced, confirm=20),  # type: ignore[arg-type]
    }


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_only_a_confirmation_is_not_optimistic(kind: str) -> None:
    found = [told(kind, seed) for seed in range(60)]
    optimism = {name: float(np.mean([each[name].optimism for each in found])) for name in found[0]}
    assert optimism["search"] > 5.0
    assert abs(optimism["confirmed"]) < 4.0 < optimism["search"]
    for each in found:
        assert each["race"].trial == each["confirmed"].trial
        assert each["race"].seeds == each["confirmed"].seeds <= 32
        assert each["fixed"].seeds == 16


def test_a_table_has_a_line_for_each_strategy() -> None:
    stage = Stage(top=3, block=2, blocks=2, error=0.05, confirm=4)
    task = synthetic.Task("open", trials=12, agents=2, study_seed=1)
    searched = task.searched([3])
    lines = gathered([(searched, task.fresh([*searched.truth], 20))], stage).splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == [
        "best search value",
        "fixed, 3 x 10 seeds",
        "fixed, 3 x 4 seeds",
    ]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_search_costs_no_more_than_its_seeds(schedule: Schedule) -> None:
    _, searched = schedule.search("capped", seeds=100, study_seed=3)
    spent = [len(trial.user_attrs["scores"]) for trial in searched.trials]
    assert 100 - 3 * schedule.start - 8 < sum(spent) <= 100
    assert set(spent) == {schedule.start, *schedule.more}
    # Whoever has more seeds was the better one with fewer.
    first = {
        count: [
            float(np.mean(trial.user_attrs["scores"][: schedule.start]))
            for trial in searched.trials
            if len(trial.user_attrs["scores"]) == count
        ]
        for count in set(spent)
    }
    if len(schedule.more) == 1:
        assert min(first[schedule.more[0]]) >= max(first[schedule.start])
