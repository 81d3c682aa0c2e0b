"""The pruners that a study may name. Each is one class: its options, its checks, and its judge.

The names, and the decisions, are Optuna 5's. A trial reports at its number of environment steps, so
resources are environment steps. They are always numbers from the study file: left to itself, Optuna
guesses them in each worker's process, from whatever trials that has seen.

Whoever only reads a study file loads no NumPy, which the judges need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialfleet.checking.fields import by_name
from trialfleet.checking.mistakes import FieldError, dotted
from trialfleet.errors import StudyFileError
from trialfleet.search.pruners.alone import NoPruner, Patient, Threshold
from trialfleet.search.pruners.base import Pruner
from trialfleet.search.pruners.compared import Hyperband, Median, Percentile, SuccessiveHalving
from trialfleet.search.pruners.named import ANY_PRUNER, PRUNERS, OwnPruner

if TYPE_CHECKING:
    from trialfleet.search.judges import Judge
    from trialfleet.study.spec import Spec

__all__ = [
    "ANY_PRUNER",
    "PRUNERS",
    "Hyperband",
    "Median",
    "NoPruner",
    "OwnPruner",
    "Patient",
    "Percentile",
    "Pruner",
    "SuccessiveHalving",
    "Threshold",
    "make_judge",
]

PRUNERS |= by_name(NoPruner, Median, Percentile, Hyperband, SuccessiveHalving, Threshold, Patient)


def make_judge(spec: Spec, trial_number: int) -> Judge:
    """Who decides about the trial of this number.

    Raises:
        StudyFileError: A pruner of the user's own cannot be made here.
    """
    try:
        return spec.search.pruner.build(spec, trial_number)
    except FieldError as problem:
        raise StudyFileError(f"{dotted('search.pruner', problem.at)}: {problem.text}") from problem
