"""Pruners that look at the trial's own curve: alone, or before they ask another one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import model_validator

from trialfleet.checking.mistakes import FieldError, under
from trialfleet.checking.rules import Real, Whole
from trialfleet.search.pruners.base import MAX_STEPS, Pruner, evaluation_from, fits
from trialfleet.search.pruners.named import ANY_PRUNER

if TYPE_CHECKING:
    from trialfleet.search.judges import Judge
    from trialfleet.study.spec import Spec

_SCORE = Real(-1e300, 1e300)


class NoPruner(Pruner):
    """Every trial trains to its end."""

    name: Literal["none"] = "none"

    def first_judged(self, spec: Spec) -> None:
        """It judges none."""

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges import Never

        return Never()


class Threshold(Pruner):
    """Prunes what is below a score that you know to be hopeless, or above one it can't have."""

    name: Literal["threshold"] = "threshold"
    lower: Annotated[float | None, _SCORE] = None  # a trial below it ends
    upper: Annotated[float | None, _SCORE] = None  # a trial above it ends
    n_warmup_steps: Annotated[int, Whole(0, MAX_STEPS)] = 0  # environment steps without pruning

    @model_validator(mode="after")
    def _there_is_one(self) -> Threshold:
        if self.lower is None and self.upper is None:
            raise FieldError('is missing; "threshold" must have lower, upper or both', at="lower")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise FieldError(
                f"{self.lower:g} is above upper ({self.upper:g}); must be at most that", at="lower"
            )
        return self

    def check(self, spec: Spec) -> None:
        """The warm-up must fit in the training."""
        fits("n_warmup_steps", self.n_warmup_steps, spec)

    def first_judged(self, spec: Spec) -> int:
        """The first evaluation after the warm-up."""
        return evaluation_from(self.n_warmup_steps, spec)

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges.alone import ThresholdJudge

        return ThresholdJudge(
            lower=-math.inf if self.lower is None else self.lower,
            upper=math.inf if self.upper is None else self.upper,
            n_warmup_steps=self.n_warmup_steps,
            interval_steps=spec.task.eval_every,
        )


class Patient(Pruner):
    """Lets another pruner judge only trials that have got no better for a while."""

    name: Literal["patient"] = "patient"
    patience: Annotated[int, Whole(0, 10_000)]  # evaluations without improvement that are let pass
    # the pruner that then decides, given like the pruner itself; without it the trial ends
    wrapped: Annotated[Pruner | None, ANY_PRUNER] = None
    # how much below its best still counts as no fall
    min_delta: Annotated[float, Real(0, 1e300)] = 0.0

    def check(self, spec: Spec) -> None:
        """It must run out within a trial's evaluations, after which there is nothing to prune."""
        most = spec.task.segments - 2
        if self.patience > most:
            raise FieldError(
                f"{self.patience} evaluations without improvement, and then two more, are more than"
                f" a trial has ({spec.task.segments}, one every task.eval_every steps);"
                f" must be at most {max(most, 0)}",
                at="patience",
            )
        if self.wrapped is not None:
            with under("wrapped"):
                self.wrapped.check(spec)

    def first_judged(self, spec: Spec) -> int | None:
        """That of the pruner behind it, and not before patience can have run out."""
        behind = spec.task.eval_every if self.wrapped is None else self.wrapped.first_judged(spec)
        return None if behind is None else max(behind, (self.patience + 2) * spec.task.eval_every)

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges.alone import PatientJudge

        return PatientJudge(
            wrapped=None if self.wrapped is None else self.wrapped.build(spec, trial_number),
            patience=self.patience,
            min_delta=self.min_delta,
        )

    def probe(self, spec: Spec) -> None:
        """Try the pruner behind it."""
        if self.wrapped is not None:
            with under("wrapped"):
                self.wrapped.probe(spec)
