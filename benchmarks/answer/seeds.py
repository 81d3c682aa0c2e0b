"""How many seeds a trial of the search is worth, on made-up tasks, at the same cost.

A search that trains each configuration on fewer seeds sees more configurations, and errs more about
each; one that gives further seeds to those that look promising does something of both. What counts
is how good the configuration truly is that wins the race in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.answer import strategies
from benchmarks.answer.strategies import Searched
from benchmarks.answer.synthetic import Task

_PROMISING = 1 / 3  # of the trials at one level, those that are given the next one's seeds


@dataclass(frozen=True)
class Schedule:
    """Seeds of a trial: how many at first, and up to how many for the promising ones."""

    start: int
    more: tuple[int, ...] = ()

    def __str__(self) -> str:
        return " → ".join(map(str, (self.start, *self.more)))

    def trials(self, seeds: int) -> int:
        """How many trials cost no more than so many seeds."""
        count = seeds // self.start
        while sum(n * (to - of) for n, of, to in self._levels(count)) > seeds:
            count -= 1
        return count

    def _levels(self, trials: int) -> list[tuple[int, int, int]]:
        """Of each level: trials that reach it, their seeds before and after it."""
        found, before = [(trials, 0, self.start)], self.start
        for level in self.more:
            trials = int(trials * _PROMISING)
            found.append((trials, before, level))
            before = level
        return found

    def search(self, kind: str, *, seeds: int, study_seed: int) -> tuple[Task, Searched]:
        """A search that costs so many seeds."""
        count = self.trials(seeds)
        task = Task(kind, trials=count, agents=self.start, study_seed=study_seed)
        trials = task.trials
        rng = np.random.default_rng([study_seed, 2])
        for reach, _, level in self._levels(count)[1:]:
            promising = sorted(trials, key=lambda trial: -trial.values[0])[:reach]
            again = {trial.number: task.trial_with(trial, level, rng) for trial in promising}
            trials = [again.get(trial.number, trial) for trial in trials]
        return task, Searched(trials=trials, truth=task.truth)


SCHEDULES = (
    Schedule(1),
    Schedule(2),
    Schedule(4),
    Schedule(8),
    Schedule(1, (2, 4, 8)),
    Schedule(2, (4, 8)),
    Schedule(2, (8,)),
    Schedule(4, (8,)),
)


def compare(kind: str, *, seeds: int, studies: int, top: int) -> str:
    """A table with a line for each schedule."""
    lines = [
        f"{'seeds of a trial':>16} {'trials':>7} {'true mean of the winner':>24} "
        f"{'± 1.96 s.e.':>12}"
    ]
    for schedule in SCHEDULES:
        true = []
        for study_seed in range(studies):
            task, searched = schedule.search(kind, seeds=seeds, study_seed=study_seed)
            entered = strategies.needed(searched, [top])
            told = strategies.race(
                searched,
                task.fresh(entered, 20),
                top=top,
                block=4,
                blocks=5,
                error=0.05,
                confirm=0,
            )
            true.append(told.true)
        error = 1.96 * np.std(true) / np.sqrt(studies)
        lines.append(
            f"{schedule!s:>16} {schedule.trials(seeds):7} {np.mean(true):24.1f} {error:12.1f}"
        )
    return "\n".join(lines)
