"""Optuna's QMC sampler with the trial's number as the point's number."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import QMCSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from trialfleet.search.knobs import SearchSpace
from trialfleet.search.space import distributions


class NumberedQMCSampler(QMCSampler):
    """Gives trial n the n-th point of one sequence.

    Optuna counts the points in a study attribute, which it reads and writes in two transactions: of
    two workers that ask at once, both get the same point. And it learns the space from an earlier
    trial, so that the first ones are random. The trial's number and the study file know better.

    Args:
        space: Whose searched knobs are the sequence's dimensions.
        qmc_type: "sobol" or "halton".
        scramble: Whether `seed` scrambles the sequence.
        seed: The same for all trials of a study.
        independent_seed: The trial's own, for knobs outside of the sequence.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        qmc_type: str,
        scramble: bool,
        seed: int,
        independent_seed: int,
    ) -> None:
        super().__init__(
            qmc_type=qmc_type,
            scramble=scramble,
            seed=seed,
            independent_sampler=RandomSampler(seed=independent_seed),
            warn_independent_sampling=False,
        )
        self._space = {
            name: each for name, each in distributions(space).items() if not each.single()
        }
        self._number = 0

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The whole space of the study file, whatever trials there are."""
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The trial's own point."""
        self._number = trial.number
        return super().sample_relative(study, trial, search_space)

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number
