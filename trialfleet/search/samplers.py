"""The study's sampler as Optuna's object, a fresh one for each trial.

A fresh sampler knows nothing that the storage does not hold, so a trial's suggestions depend on the
study file, the trial's number and the trials before it, never on what its worker did earlier.
Optuna loads SciPy, cmaes and PyTorch only when a sampler that needs them suggests.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from optuna import samplers
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.trial import FrozenTrial

from trialfleet.search.options import Cmaes, Gp, Qmc, Random, Tpe
from trialfleet.search.space import distributions
from trialfleet.seeds import sampler_seed, shared_seed

if TYPE_CHECKING:
    from trialfleet.study.spec import Spec


def make_sampler(spec: Spec, trial_number: int) -> samplers.BaseSampler:
    """The sampler that suggests for the trial of this number, and for no other."""
    with warnings.catch_warnings():
        # The study file chose it by name, and a pinned Optuna does not change.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _sampler(spec, sampler_seed(spec.seed, trial_number))


def _sampler(spec: Spec, seed: int) -> samplers.BaseSampler:
    match spec.search.sampler:
        case Tpe() as tpe:
            return samplers.TPESampler(
                n_startup_trials=tpe.n_startup_trials,
                n_ei_candidates=tpe.n_ei_candidates,
                multivariate=tpe.multivariate,
                group=tpe.group,
                constant_liar=tpe.constant_liar,
                seed=seed,
            )
        case Random():
            return samplers.RandomSampler(seed=seed)
        case Qmc() as qmc:
            return _NumberedQMCSampler(spec, qmc, independent_seed=seed)
        case Gp() as gp:
            return samplers.GPSampler(
                n_startup_trials=gp.n_startup_trials,
                deterministic_objective=gp.deterministic_objective,
                seed=seed,
                warn_independent_sampling=False,
            )
        case Cmaes() as cmaes:
            return samplers.CmaEsSampler(
                n_startup_trials=cmaes.n_startup_trials,
                popsize=cmaes.popsize,
                consider_pruned_trials=cmaes.consider_pruned_trials,
                use_separable_cma=cmaes.use_separable_cma,
                with_margin=cmaes.with_margin,
                lr_adapt=cmaes.lr_adapt,
                seed=seed,
                warn_independent_sampling=False,
            )


class _NumberedQMCSampler(samplers.QMCSampler):
    """Gives trial n the n-th point of one sequence.

    Optuna counts the points in a study attribute, which it reads and writes in two transactions: of
    two workers that ask at once, both get the same point. And it learns the space from an earlier
    trial, so that the first ones are random. The trial's number and the study file know better.
    """

    def __init__(self, spec: Spec, options: Qmc, *, independent_seed: int) -> None:
        super().__init__(
            qmc_type=options.qmc_type,
            scramble=options.scramble,
            seed=shared_seed(spec.seed),
            independent_sampler=samplers.RandomSampler(seed=independent_seed),
            warn_independent_sampling=False,
        )
        self._space = {
            name: each for name, each in distributions(spec.agent).items() if not each.single()
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
