"""A sampler that gives each trial its own of a finite number of configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from trialfleet.search.marks import IMPORTED
from trialfleet.search.numbered.visits import Params, Visits


class ExhaustiveSampler(BaseSampler):
    """Gives trial n the n-th configuration, of those that nobody has asked for by hand.

    Args:
        visits: Makes what knows the configurations, and of no trial yet.
        distributions: Of their parameters.
        independent_seed: The trial's own, for parameters of a trial that was enqueued with others.
    """

    def __init__(
        self,
        visits: Callable[[], Visits],
        distributions: Mapping[str, BaseDistribution],
        *,
        independent_seed: int,
    ) -> None:
        self._visits, self._distributions = visits, distributions
        self._random = RandomSampler(seed=independent_seed)
        self._point: Params = {}

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

    def _choose(self, study: Study, trial: FrozenTrial) -> Params:
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
        before = [each for each in trials if each.number <= trial.number]
        enqueued = {
            each.number: each.system_attrs["fixed_params"]
            for each in before
            if "fixed_params" in each.system_attrs
        }
        imported = {each.number for each in before if IMPORTED in each.user_attrs}
        visits = self._visits()
        if not enqueued and not imported and (first := visits.first(trial.number)) is not None:
            return first
        found: Params = {}
        for number in range(trial.number + 1):
            if number in enqueued:
                found = visits.enqueued(number, enqueued[number])
            elif number not in imported:
                found = visits.drawn(number, lambda: _failed(study))
        return found


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
