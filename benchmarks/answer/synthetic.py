"""Made-up tasks whose truth is known, so that thousands of studies cost seconds.

`capped` has CartPole's shape: a configuration's seeds either reach the highest return of 500 or
fall short of it by much, and configurations differ in how many do. `open` has no highest return:
seeds differ by a normal deviation of 20, configurations by one of 15.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from benchmarks.answer.strategies import Fresh, Searched, needed

KINDS = ("capped", "open")
_CAP, _SHORT = 500.0, 220.0  # the highest return, and the mean of seeds that fall short
_SPACE: Mapping[str, FloatDistribution] = {"x": FloatDistribution(0.0, 1.0)}


class Task:
    """One study of a made-up task.

    Args:
        kind: One of `KINDS`.
        trials: Of its search, which draws configurations at random.
        agents: Seeds of a trial.
        study_seed: Of everything that is drawn.
    """

    def __init__(self, kind: str, *, trials: int, agents: int, study_seed: int) -> None:
        self._kind, self._seed = kind, study_seed
        rng = np.random.default_rng([study_seed, 0])
        if kind == "capped":
            # How often a seed falls short: of a few configurations never, of most ones often.
            self._short = np.maximum(rng.beta(0.7, 1.2, trials) - 0.02, 0.0)
            self._truth = _CAP - self._short * (_CAP - _SHORT)
        else:
            self._truth = rng.normal(100.0, 15.0, trials)
        self._speed = rng.uniform(0.4, 0.7, trials)  # area under a curve, as a share of its end
        self.truth = dict(enumerate(self._truth.tolist()))  # by trial
        self.trials = [
            self._trial(number, self._seeds(number, agents, rng)) for number in self.truth
        ]

    def searched(self, tops: list[int]) -> Searched:
        """The search, with the truth about everything that a strategy with these tops retrains."""
        found = Searched(trials=self.trials, truth={})
        truth = {number: self.truth[number] for number in needed(found, tops)}
        return Searched(trials=self.trials, truth=truth)

    def fresh(self, numbers: list[int], seeds: int) -> dict[int, Fresh]:
        """So many fresh seeds of each of these trials."""
        rng = np.random.default_rng([self._seed, 1])
        return {number: self._seeds(number, seeds, rng) for number in numbers}

    def _seeds(self, number: int, seeds: int, rng: np.random.Generator) -> Fresh:
        if self._kind == "capped":
            short = rng.random(seeds) < self._short[number]
            scores = np.where(short, 2 * _SHORT * rng.beta(2, 2, seeds), _CAP)
        else:
            scores = rng.normal(self._truth[number], 20.0, seeds)
        areas = scores * self._speed[number] * rng.uniform(0.9, 1.1, seeds)
        return Fresh(scores=scores.tolist(), areas=areas.tolist())

    def trial_with(self, trial: FrozenTrial, agents: int, rng: np.random.Generator) -> FrozenTrial:
        """A trial of the search with as many further seeds as make it so many."""
        scores = trial.user_attrs["scores"]
        more = self._seeds(trial.number, agents - len(scores), rng)
        areas = [trial.intermediate_values[1] / 2] * len(scores)
        return self._trial(
            trial.number,
            Fresh(scores=[*scores, *more.scores], areas=[*areas, *more.areas]),
        )

    def _trial(self, number: int, drawn: Fresh) -> FrozenTrial:
        value = float(np.mean(drawn.scores))
        made = optuna.trial.create_trial(
            state=TrialState.COMPLETE,
            value=value,
            params={"x": (number + 0.5) / len(self._truth)},
            distributions=dict(_SPACE),
            user_attrs={"scores": drawn.scores},
            # A curve whose area is that of its seeds.
            intermediate_values={1: float(np.mean(drawn.areas)) * 2},
        )
        made.number = number
        return made
