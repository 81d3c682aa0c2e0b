"""Pruners that compare a trial with the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trialfleet.checking.rules import Real, Whole
from trialfleet.search.pruners.base import MAX_STEPS, TRIALS, Pruner, evaluation_from, fits

if TYPE_CHECKING:
    from trialfleet.search.judges import Judge
    from trialfleet.study.spec import Spec


class Median(Pruner):
    """Prunes what is below the median of the completed trials at the same step."""

    name: Literal["median"] = "median"
    n_startup_trials: Annotated[int, TRIALS] = 5  # completed trials before any is pruned
    n_warmup_steps: Annotated[int, Whole(0, MAX_STEPS)] = 0  # environment steps without pruning
    # completed trials that have reported at a step before any is pruned there
    n_min_trials: Annotated[int, Whole(1, 1_000_000)] = 1

    def check(self, spec: Spec) -> None:
        """The warm-up must fit in the training."""
        fits("n_warmup_steps", self.n_warmup_steps, spec)

    def first_judged(self, spec: Spec) -> int:
        """The first evaluation after the warm-up."""
        return evaluation_from(self.n_warmup_steps, spec)

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges.percentile import PercentileJudge

        return PercentileJudge(
            rule=self.name,
            percentile=50.0,
            n_startup_trials=self.n_startup_trials,
            n_warmup_steps=self.n_warmup_steps,
            interval_steps=spec.task.eval_every,
            n_min_trials=self.n_min_trials,
        )


class Percentile(Pruner):
    """Prunes what is not in the best `percentile` per cent of the completed trials."""

    name: Literal["percentile"] = "percentile"
    percentile: Annotated[float, Real(0, 100)] = 25.0  # per cent of the trials that stay
    n_startup_trials: Annotated[int, TRIALS] = 5  # completed trials before any is pruned
    n_warmup_steps: Annotated[int, Whole(0, MAX_STEPS)] = 0  # environment steps without pruning
    # completed trials that have reported at a step before any is pruned there
    n_min_trials: Annotated[int, Whole(1, 1_000_000)] = 1

    def check(self, spec: Spec) -> None:
        """The warm-up must fit in the training."""
        fits("n_warmup_steps", self.n_warmup_steps, spec)

    def first_judged(self, spec: Spec) -> int:
        """The first evaluation after the warm-up."""
        return evaluation_from(self.n_warmup_steps, spec)

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges.percentile import PercentileJudge

        return PercentileJudge(
            percentile=self.percentile,
            n_startup_trials=self.n_startup_trials,
            n_warmup_steps=self.n_warmup_steps,
            interval_steps=spec.task.eval_every,
            n_min_trials=self.n_min_trials,
        )


class Hyperband(Pruner):
    """Successive halving in several brackets, from hasty to patient."""

    name: Literal["hyperband"] = "hyperband"
    # environment steps before the hastiest bracket prunes; `task.eval_every` unless given
    min_resource: Annotated[int | None, Whole(1, MAX_STEPS)] = None
    # one trial of so many goes on at each rung, to so many times the steps
    reduction_factor: Annotated[int, Whole(2, 100)] = 3

    def check(self, spec: Spec) -> None:
        """The hastiest bracket must prune before the training ends."""
        fits("min_resource", self.min_resource, spec)

    def first_judged(self, spec: Spec) -> int:
        """The first rung of the hastiest bracket."""
        return evaluation_from(self.min_resource or 0, spec)

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges.halving import HyperbandJudge

        return HyperbandJudge(
            study=spec.name,
            number=trial_number,
            min_resource=self.min_resource or spec.task.eval_every,
            max_resource=spec.task.train_steps,
            reduction_factor=self.reduction_factor,
        )


class SuccessiveHalving(Pruner):
    """At min_resource × reduction_factor^k environment steps, one of reduction_factor goes on.

    Optuna's bootstrap_count is not offered: it prunes a rung's first trials whatever their score.
    """

    name: Literal["successive_halving"] = "successive_halving"
    # environment steps of the first rung; `task.eval_every` unless given
    min_resource: Annotated[int | None, Whole(1, MAX_STEPS)] = None
    # one trial of so many goes on at each rung, to so many times the steps
    reduction_factor: Annotated[int, Whole(2, 100)] = 3
    # how often min_resource is multiplied by reduction_factor before the first rung
    min_early_stopping_rate: Annotated[int, Whole(0, 30)] = 0

    def check(self, spec: Spec) -> None:
        """The first rung must come before the training ends."""
        fits("min_resource", self.min_resource, spec)

    def first_judged(self, spec: Spec) -> int:
        """The first rung."""
        steps = self.min_resource or spec.task.eval_every
        return evaluation_from(steps * self.reduction_factor**self.min_early_stopping_rate, spec)

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges.halving import HalvingJudge

        return HalvingJudge(
            min_resource=self.min_resource or spec.task.eval_every,
            reduction_factor=self.reduction_factor,
            min_early_stopping_rate=self.min_early_stopping_rate,
        )
