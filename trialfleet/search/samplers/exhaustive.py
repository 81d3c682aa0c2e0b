"""Samplers that try each configuration of a finite number once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trialfleet.checking.mistakes import FieldError
from trialfleet.checking.rules import Whole
from trialfleet.search.numbered.points import Points
from trialfleet.search.numbered.visits import Visits
from trialfleet.search.samplers.base import Sampler

if TYPE_CHECKING:
    from optuna import samplers

    from trialfleet.study.spec import Spec


class _Exhaustive(Sampler):
    def points(self, spec: Spec) -> Points:
        """All configurations that it tries."""
        raise NotImplementedError

    def visits(self, spec: Spec) -> Visits:
        """Which of them each trial has."""
        from trialfleet.seeds import shared_seed

        return Visits(self.points(spec), seed=shared_seed(spec.seed))

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """A sampler that knows which of them is the trial's."""
        from trialfleet.search.numbered.exhaustive import ExhaustiveSampler
        from trialfleet.search.space import distributions

        return ExhaustiveSampler(
            lambda: self.visits(spec), distributions(spec.agent), independent_seed=seed
        )


class Grid(_Exhaustive):
    """Every combination of a few values of each knob, once each, in an order drawn by the seed."""

    name: Literal["grid"] = "grid"
    points_per_range: Annotated[int, Whole(2, 1_000)] = 5  # values tried of a range that has more

    def points(self, spec: Spec) -> Points:
        """The grid."""
        return Points.of(spec.agent, most=self.points_per_range)


class BruteForce(_Exhaustive):
    """Every configuration of a finite space once, in an order drawn by the study's seed."""

    name: Literal["brute_force"] = "brute_force"

    def check(self, spec: Spec) -> None:
        """There must be an end to it."""
        if endless := Points.endless(spec.agent):
            table = "agent" if spec.task.objective is None else "parameters"
            raise FieldError(
                f'"brute_force" tries every value, and {table}.{endless} is a range of all numbers;'
                ' must have a step or choices; or use "grid"'
            )

    def points(self, spec: Spec) -> Points:
        """All that the space has."""
        return Points.of(spec.agent, most=None)
