"""Optuna's own objects for what a study file names: what ours are compared with."""

from __future__ import annotations

import warnings

from optuna import pruners
from optuna.exceptions import ExperimentalWarning

from trialfleet.search.pruners import (
    Hyperband,
    Median,
    NoPruner,
    OwnPruner,
    Patient,
    Percentile,
    Pruner,
    SuccessiveHalving,
    Threshold,
)
from trialfleet.study.spec import Spec


def make_pruner(spec: Spec) -> pruners.BasePruner:
    """The study's pruner, as Optuna's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _pruner(spec, spec.search.pruner)


def _pruner(spec: Spec, pruner: Pruner) -> pruners.BasePruner:
    every, steps = spec.task.eval_every, spec.task.train_steps
    match pruner:
        case NoPruner():
            return pruners.NopPruner()
        case Median() as median:
            return pruners.MedianPruner(
                n_startup_trials=median.n_startup_trials,
                n_warmup_steps=median.n_warmup_steps,
                interval_steps=every,
                n_min_trials=median.n_min_trials,
            )
        case Percentile() as percentile:
            return pruners.PercentilePruner(
                percentile.percentile,
                n_startup_trials=percentile.n_startup_trials,
                n_warmup_steps=percentile.n_warmup_steps,
                interval_steps=every,
                n_min_trials=percentile.n_min_trials,
            )
        case Hyperband() as hyperband:
            return pruners.HyperbandPruner(
                min_resource=hyperband.min_resource or every,
                max_resource=steps,
                reduction_factor=hyperband.reduction_factor,
            )
        case SuccessiveHalving() as halving:
            return pruners.SuccessiveHalvingPruner(
                min_resource=halving.min_resource or every,
                reduction_factor=halving.reduction_factor,
                min_early_stopping_rate=halving.min_early_stopping_rate,
            )
        case Threshold() as threshold:
            return pruners.ThresholdPruner(
                lower=threshold.lower,
                upper=threshold.upper,
                n_warmup_steps=threshold.n_warmup_steps,
                interval_steps=every,
            )
        case OwnPruner() as own:
            return own.made()
        case Patient() as patient:
            return pruners.PatientPruner(
                None if patient.wrapped is None else _pruner(spec, patient.wrapped),
                patience=patient.patience,
                min_delta=patient.min_delta,
            )
    raise NotImplementedError(f"Optuna has no pruner like {pruner.name!r}")
