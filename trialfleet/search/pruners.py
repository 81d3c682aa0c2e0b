"""The pruners that a study may name. Each is one class: its options, its checks, and its judge.

The names, and the decisions, are Optuna 5's. A trial reports at its number of environment steps, so
resources are environment steps. They are always numbers from the study file: left to itself, Optuna
guesses them in each worker's process, from whatever trials that has seen.

Whoever only reads a study file loads no NumPy, which the judges need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trialfleet.checking.fields import Strict, by_name
from trialfleet.checking.mistakes import FieldError
from trialfleet.checking.rules import Real, Whole

if TYPE_CHECKING:
    from trialfleet.search.judges import Judge
    from trialfleet.study.spec import Spec

_TRIALS = Whole(0, 1_000_000)
_STEPS = 1_000_000_000


class Pruner(Strict):
    """Ends trials early that do worse than others. Its fields are its options."""

    name: str

    def check(self, spec: Spec) -> None:
        """Refuse a study that this pruner does not go with; raises FieldError."""

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        raise NotImplementedError


class NoPruner(Pruner):
    """Every trial trains to its end."""

    name: Literal["none"] = "none"

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges import Never

        return Never()


class Median(Pruner):
    """Prunes what is below the median of the completed trials at the same step."""

    name: Literal["median"] = "median"
    n_startup_trials: Annotated[int, _TRIALS] = 5  # completed ones before any is pruned
    n_warmup_steps: Annotated[int, Whole(0, _STEPS)] = 0  # environment steps without pruning
    n_min_trials: Annotated[int, Whole(1, 1_000_000)] = 1

    def check(self, spec: Spec) -> None:
        """The warm-up must fit in the training."""
        _fits("n_warmup_steps", self.n_warmup_steps, spec)

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges import PercentileJudge

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
    percentile: Annotated[float, Real(0, 100)] = 25.0  # how many stay
    n_startup_trials: Annotated[int, _TRIALS] = 5  # completed ones before any is pruned
    n_warmup_steps: Annotated[int, Whole(0, _STEPS)] = 0  # environment steps without pruning
    n_min_trials: Annotated[int, Whole(1, 1_000_000)] = 1

    def check(self, spec: Spec) -> None:
        """The warm-up must fit in the training."""
        _fits("n_warmup_steps", self.n_warmup_steps, spec)

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges import PercentileJudge

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
    # environment steps before the hastiest bracket prunes; task.eval_every unless given
    min_resource: Annotated[int | None, Whole(1, _STEPS)] = None
    reduction_factor: Annotated[int, Whole(2, 100)] = 3

    def check(self, spec: Spec) -> None:
        """The hastiest bracket must prune before the training ends."""
        _fits("min_resource", self.min_resource, spec)

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges import HyperbandJudge

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
    # environment steps of the first rung; task.eval_every unless given
    min_resource: Annotated[int | None, Whole(1, _STEPS)] = None
    reduction_factor: Annotated[int, Whole(2, 100)] = 3
    min_early_stopping_rate: Annotated[int, Whole(0, 30)] = 0

    def check(self, spec: Spec) -> None:
        """The first rung must come before the training ends."""
        _fits("min_resource", self.min_resource, spec)

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges import HalvingJudge

        return HalvingJudge(
            min_resource=self.min_resource or spec.task.eval_every,
            reduction_factor=self.reduction_factor,
            min_early_stopping_rate=self.min_early_stopping_rate,
        )


PRUNERS = by_name(NoPruner, Median, Percentile, Hyperband, SuccessiveHalving)


def _fits(option: str, steps: int | None, spec: Spec) -> None:
    most = spec.task.train_steps
    if steps is not None and steps > most:
        raise FieldError(
            f"{steps} environment steps are more than task.train_steps ({most});"
            f" must be at most {most}",
            at=option,
        )
