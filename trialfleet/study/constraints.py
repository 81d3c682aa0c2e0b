"""Constraints: what a trial must come to for its value to count.

Optuna and its dashboard take numbers that are met at zero or less. Ours are by how much of the
bound a measure exceeds it, so that seconds and numbers of parameters can be added up, as samplers
do.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ValidationError, field_serializer, model_validator

from trialfleet.checking.fields import Strict, explain
from trialfleet.checking.mistakes import FieldError, Gathering
from trialfleet.checking.rules import OneOf, Real, Rule
from trialfleet.study.measures import NAMES, OVER_SEEDS, Measure

MOST_CONSTRAINTS = 16
_BOUND = Real(-1e15, 1e15)


@dataclass(frozen=True)
class _Measured(Rule):
    """The name of a measure."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return f"one of {NAMES}"

    def check(self, value: object) -> Measure:
        """The measure."""
        return value if isinstance(value, Measure) else Measure.parse(value)


class Constraint(Strict):
    """A bound on a measure."""

    # what is bounded
    measure: Annotated[Measure, _Measured()]
    # the upper bound; a constraint has one of the two
    at_most: Annotated[float | None, _BOUND] = None
    # the lower bound
    at_least: Annotated[float | None, _BOUND] = None
    # how the agents' values become the trial's; `search.over_seeds` unless given
    over_seeds: Annotated[str | None, OneOf(OVER_SEEDS)] = None

    @model_validator(mode="after")
    def _one_bound(self) -> Constraint:
        if (self.at_most is None) == (self.at_least is None):
            raise FieldError("needs a bound; must have at_most or at_least, and not both")
        return self

    @field_serializer("measure")
    def _measure_as_text(self, measure: Measure) -> str:
        return measure.name

    @property
    def bound(self) -> float:
        """The number that the measure is compared with."""
        bound = self.at_most if self.at_most is not None else self.at_least
        assert bound is not None, "one of them is there"
        return bound

    @property
    def more_is_better(self) -> bool:
        """Whether the bound is the least that is allowed."""
        return self.at_least is not None

    @property
    def label(self) -> str:
        """For people, such as "parameters <= 5000"."""
        bound = int(self.bound) if self.bound.is_integer() else self.bound
        return f"{self.bounded} {'>=' if self.more_is_better else '<='} {bound}"

    @property
    def bounded(self) -> str:
        """What it bounds: its label without the bound."""
        over = f" ({self.over_seeds})" if self.over_seeds else ""
        return f"{self.measure.name}{over}"

    def excess(self, value: float) -> float:
        """By how much of the bound the value violates it; zero or less if it is met."""
        over = self.bound - value if self.more_is_better else value - self.bound
        most = sys.float_info.max  # JSON has no infinity
        return min(max(over / (abs(self.bound) or 1.0), -most), most)


def without_bound(label: str) -> str:
    """What a constraint with this label bounds."""
    return re.sub(r" [<>]= \S+$", "", label)


@dataclass(frozen=True)
class Constraints(Rule):
    """The tables [[constraints]]."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return f"at most {MOST_CONSTRAINTS} tables [[constraints]]"

    def check(self, value: object) -> tuple[Constraint, ...]:
        """The constraints, counted from 0 in what is refused of them, as all lists are."""
        if not isinstance(value, list | tuple) or len(value) > MOST_CONSTRAINTS:
            raise self.refusal(value)
        found: list[Constraint] = []
        with Gathering() as gathering:
            for place, each in enumerate(value):
                with gathering.under(f"[{place}]"):
                    constraint = each if isinstance(each, Constraint) else _read(each)
                    if constraint.label in [other.label for other in found]:
                        raise FieldError(f"{constraint.label} is there twice; must be once")
                    found.append(constraint)
        return tuple(found)


def _read(table: Any) -> Constraint:
    try:
        return Constraint.model_validate(table)
    except ValidationError as error:
        raise explain(error, dict.fromkeys(Constraint.model_fields, ())) from None
