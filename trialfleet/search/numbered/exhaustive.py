"""A sampler that gives each trial its own of a finite number of configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from trialfleet.search.numbered.points import Points, permuted

_permuted = lru_cache(maxsize=100_000)(permuted)


class ExhaustiveSampler(BaseSampler):
    """Gives trial n the n-th configuration, of those that nobody has asked for by hand.

    Optuna's own samplers look which configurations are not there yet: two workers that look at once
    both take the same. Here a configuration follows from what no longer changes when a trial is
    numbered: the numbers and fixed parameters of the trials enqueued before it. Once all have been
    tried, a trial takes the place of one that failed, in the order in which trials failed: there is
    such a trial only because of that failure, and the order of the commits never changes.

    Args:
        points: The configurations.
        distributions: Of their parameters.
        seed: The same for all trials of a study; draws their order.
        independent_seed: The trial's own, for parameters of a trial that was enqueued with others.
    """

    def __init__(
        self,
        points: Points,
        distributions: Mapping[str, BaseDistribution],
        *,
        seed: int,
        independent_seed: int,
    ) -> None:
        self._points, self._distributions, self._seed = points, distributions, seed
        self._random = RandomSampler(seed=independent_seed)
        self._point: dict[str, Any] = {}

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that the trial's configuration has."""
        self._point = self._choose(study, trial)
        return {name: self._distributions[name] for name in self._point}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The trial's configuration."""
        return {name: self._point[name] for name in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """What no configuration has: of an enqueued trial that is none of them."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _choose(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
        enqueued = {
            each.number: each.system_attrs["fixed_params"]
            for each in trials
            if "fixed_params" in each.system_attrs and each.number <= trial.number
        }
        if not enqueued and trial.number < self._points.count:
            return self._points.at(self._nth(trial.number, self._points))
        taken: dict[int, int] = {}  # the configuration of each trial so far, by its number
        tried: set[int] = set()
        fresh = 0  # of the order, how many have been looked at
        again: list[int] | None = None  # trials that failed, oldest first
        for number in range(trial.number + 1):
            if number in enqueued:
                point, index = self._of_enqueued(enqueued[number], tried)
            else:
                while fresh < self._points.count and self._nth(fresh, self._points) in tried:
                    fresh += 1
                if fresh < self._points.count:
                    index = self._nth(fresh, self._points)
                else:
                    again = _failed(study) if again is None else again
                    index = self._once_more(number, again, taken)
                point = {}
            if index is not None:
                tried.add(index)
                taken[number] = index
        return point or self._points.at(taken[trial.number])

    def _nth(self, index: int, points: Points) -> int:
        return _permuted(index, points.count, self._seed)

    def _of_enqueued(
        self, params: Mapping[str, Any], tried: set[int]
    ) -> tuple[dict[str, Any], int | None]:
        """What an enqueued trial is: the first with its parameters that was not tried, if any."""
        left = self._points.fixing(params)
        for index in range(min(left.count, len(tried) + 1)):
            point = left.at(self._nth(index, left))
            found = self._points.index_of(point)
            if found is None or found not in tried:
                return point, found
        return left.at(self._nth(0, left)), None

    def _once_more(self, number: int, failed: list[int], taken: Mapping[int, int]) -> int:
        """The configuration of the next trial that failed; of any, if the budget was extended."""
        while failed:
            index = taken.get(failed.pop(0))
            if index is not None:
                return index
        return self._nth(number % self._points.count, self._points)


def _failed(study: Study) -> list[int]:
    """The numbers of the trials that failed, in the order in which that was committed."""
    in_order = getattr(study._storage, "finished_in_order", None)
    if in_order is not None:
        finished: Sequence[FrozenTrial] = in_order(study._study_id)
    else:
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
        ended = [each for each in trials if each.datetime_complete is not None]
        finished = sorted(ended, key=lambda each: (each.datetime_complete, each.number))
    return [each.number for each in finished if each.state == TrialState.FAIL]
