"""The samplers that a study may name. Each is one class: its options, checks, and Optuna's object.

The names are Optuna 5's. Left out are its deprecated options and those that make no sense with a
space that never changes from trial to trial.

A fresh sampler for each trial knows nothing that the storage does not hold, so a trial's
suggestions depend on the study file, the trial's number and the trials before it, never on what its
worker did earlier. Whoever only reads a study file loads no Optuna; Optuna itself loads SciPy,
cmaes and PyTorch only when a sampler that needs them suggests.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from trialfleet.checking.fields import by_name
from trialfleet.checking.mistakes import FieldError, dotted
from trialfleet.errors import StudyFileError
from trialfleet.search.samplers.base import Sampler
from trialfleet.search.samplers.drawn import Qmc, Random
from trialfleet.search.samplers.exhaustive import BruteForce, Grid
from trialfleet.search.samplers.fixed import PartialFixed
from trialfleet.search.samplers.genetic import Nsga2, Nsga3
from trialfleet.search.samplers.models import Cmaes, Gp, Tpe
from trialfleet.search.samplers.named import ANY_SAMPLER, SAMPLERS, OwnSampler

if TYPE_CHECKING:
    from optuna import samplers

    from trialfleet.study.spec import Spec

__all__ = [
    "ANY_SAMPLER",
    "SAMPLERS",
    "BruteForce",
    "Cmaes",
    "Gp",
    "Grid",
    "Nsga2",
    "Nsga3",
    "OwnSampler",
    "PartialFixed",
    "Qmc",
    "Random",
    "Sampler",
    "Tpe",
    "make_sampler",
]

SAMPLERS |= by_name(Tpe, Random, Qmc, Gp, Cmaes, Nsga2, Nsga3, Grid, BruteForce, PartialFixed)


def make_sampler(spec: Spec, trial_number: int) -> samplers.BaseSampler:
    """The sampler that suggests for the trial of this number, and for no other.

    Raises:
        StudyFileError: A sampler of the user's own cannot be made here.
    """
    from optuna.exceptions import ExperimentalWarning

    from trialfleet.seeds import sampler_seed

    with warnings.catch_warnings():
        # The study file chose it by name, and we accept only the Optuna releases that we know.
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            return spec.search.sampler.build(spec, sampler_seed(spec.seed, trial_number))
        except FieldError as problem:
            where = dotted("search.sampler", problem.at)
            raise StudyFileError(f"{where}: {problem.text}") from problem
