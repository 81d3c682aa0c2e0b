"""Measures: what a study file can ask of a trial, as an objective or as a constraint.

A measure is a name: `score`, `steps_to_475`, `metric.loss`. An objective is a measure and, where
its name does not tell, a direction: `metric.loss:min`. What the measures are is in `KINDS`; how
they are found, in `trialfleet.study.values`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trialfleet.checking.mistakes import FieldError, nearest, shown
from trialfleet.checking.rules import Rule

Direction = Literal["max", "min"]
# How the values of a trial's agents become one: iqm is the mean of the middle half.
OVER_SEEDS = ("mean", "median", "iqm", "worst")
MOST_OBJECTIVES = 8
_MANY_DIGITS = 1e12
_IQM_SEEDS = 4  # with fewer, no value is outside of the middle half


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What all measures of one name have in common."""

    told: str  # for people
    better: Direction | None  # None: the study file has to say
    of_agents: bool = False  # a value of each agent, else one of the trial
    curve: bool = False  # needs the trial's evaluations
    settled: bool = False  # the same however long a trial is trained
    grows: bool = False  # while it is trained
    clock: bool = False  # differs each time: a replay does not compare it
    own: bool = True  # there is one of the user's own training, too


KINDS: Mapping[str, Kind] = {
    "score": Kind(
        told="mean return of an agent's result, on episodes that nothing was chosen by",
        better="max",
        of_agents=True,
    ),
    "auc": Kind(
        told="mean height of an agent's evaluation curve: the area under it by its length",
        better="max",
        of_agents=True,
        curve=True,
    ),
    "steps_to": Kind(
        told="environment steps until an agent's evaluation first returns as much",
        better="min",
        of_agents=True,
        curve=True,
        grows=True,
    ),
    "metric": Kind(
        told="a metric of the trainer's, at the last evaluation",
        better=None,
        of_agents=True,
        curve=True,
    ),
    "parameters": Kind(
        told="numbers in an agent's networks", better="min", settled=True, own=False
    ),
    "spread": Kind(told="standard deviation of the score over the seeds", better="min"),
    "seconds_per_action": Kind(
        told="seconds that a saved agent takes for an action, on its worker",
        better="min",
        clock=True,
        settled=True,
        own=False,
    ),
    "training_seconds": Kind(
        told="seconds of training, without evaluations, on its workers",
        better="min",
        curve=True,
        clock=True,
        grows=True,
        own=False,
    ),
}
_PLAIN = [name for name in KINDS if name not in ("steps_to", "metric")]
_STEPS_TO = re.compile(r"steps_to_(-?\d{1,9}(?:\.\d{1,9})?)")
_METRIC = re.compile(r"metric\.([A-Za-z_][A-Za-z0-9_]{0,63})")
NAMES = ", ".join(f'"{name}"' for name in (*_PLAIN, "steps_to_475", "metric.NAME"))


@dataclass(frozen=True)
class Measure:
    """One measure."""

    name: str  # as the study file has it

    @property
    def key(self) -> str:
        """Its name in `KINDS`."""
        if _STEPS_TO.fullmatch(self.name):
            return "steps_to"
        return "metric" if _METRIC.fullmatch(self.name) else self.name

    @property
    def kind(self) -> Kind:
        """What is known of it."""
        return KINDS[self.key]

    @property
    def threshold(self) -> float:
        """The return that `steps_to` counts to."""
        found = _STEPS_TO.fullmatch(self.name)
        assert found, self.name
        return float(found[1])

    @property
    def metric(self) -> str:
        """The trainer's name of a `metric`."""
        return self.name.removeprefix("metric.")

    @classmethod
    def parse(cls, value: object) -> Measure:
        """The measure of this name; raises FieldError if there is none."""
        if isinstance(value, str) and (
            value in _PLAIN or _STEPS_TO.fullmatch(value) or _METRIC.fullmatch(value)
        ):
            return cls(value)
        hint = nearest(value, [*_PLAIN, "steps_to_475", "metric.loss"])
        raise FieldError(f"{shown(value)}; must be one of {NAMES}{hint}")


@dataclass(frozen=True)
class Objective:
    """A measure, and whether more of it is better."""

    measure: Measure
    maximize: bool

    def __str__(self) -> str:
        """As a study file says it."""
        return f"{self.measure.name}:{'max' if self.maximize else 'min'}"

    def told(self, value: float) -> str:
        """A value of it for people; a score needs no name."""
        name = "" if self.measure.key == "score" else f"{self.measure.name} "
        return f"{name}{amount(value)}"

    @property
    def judged_by_returns(self) -> bool:
        """Whether a higher evaluation return is a better outlook: what pruners go by."""
        return self.measure.key in ("score", "auc")

    @classmethod
    def parse(cls, value: object) -> Objective:
        """The objective that this text means; raises FieldError if there is none."""
        name, colon, direction = value.partition(":") if isinstance(value, str) else (value, "", "")
        measure = Measure.parse(name)
        better = measure.kind.better
        if colon and direction not in ("max", "min"):
            raise FieldError(f'{shown(value)}; the direction must be "max" or "min"')
        if better is None and not colon:
            raise FieldError(
                f"{shown(value)}; must have a direction, {measure.name}:max or {measure.name}:min"
            )
        if better is not None and colon and direction != better:
            raise FieldError(f"{shown(value)}; must be {measure.name}:{better}, the better way")
        return cls(measure, (direction or better) == "max")


SCORE = Objective(Measure("score"), maximize=True)


@dataclass(frozen=True)
class Objectives(Rule):
    """A list of objectives, each of another measure."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return (
            f'a list of 1 to {MOST_OBJECTIVES} objectives such as ["score:max", "parameters:min"]'
        )

    def check(self, value: object) -> tuple[Objective, ...]:
        """The objectives."""
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_OBJECTIVES:
            raise self.refusal(value)
        found = tuple(
            each if isinstance(each, Objective) else Objective.parse(each) for each in value
        )
        names = [objective.measure.name for objective in found]
        for name in names:
            if names.count(name) > 1:
                raise FieldError(f"{name} is there twice; must be once")
        return found


def amount(value: float) -> str:
    """A value of an objective for people: of scores as of seconds for an action."""
    if 1 <= abs(value) < 2:  # scores of such a size differ in what a decimal leaves out
        return decimal(value, 3)
    return decimal(value, 1, group=",") if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def decimal(value: float, decimals: int, *, sign: str = "", group: str = "") -> str:
    """A number with so many decimals; as a power of ten where its digits would fill the line."""
    if abs(value) >= _MANY_DIGITS:
        return f"{value:{sign}.6g}"
    return f"{value:{sign}{group}.{decimals}f}"


def as_score(value: float, *, like: float | None = None, sign: str = "") -> str:
    """A mean return or another score for people: with a decimal, or with three where it is small.

    Args:
        value: To be told.
        like: Another value, whose number of decimals it is to have: a difference, that of its
            terms.
        sign: "+" for one in any case.
    """
    small = abs(value if like is None else like) < 2
    return decimal(value, 3 if small else 1, sign=sign, group=",")


def check_measure(
    measure: Measure, over_seeds: str, *, seeds: int, own_training: bool, at: str
) -> None:
    """Refuse what a study cannot measure; raises FieldError, at the measure's field `at`.

    Args:
        measure: That is asked for.
        over_seeds: How its agents' values become one.
        seeds: Agents of a trial.
        own_training: Whether the user's own function trains.
        at: Where the study file names the measure.
    """
    if own_training and not measure.kind.own:
        raise FieldError(
            f"{measure.name!r}; it is not known of task.objective's models; must be a metric that"
            " your function reports, such as metric.size",
            at=at,
        )
    if measure.key == "spread" and seeds < 2:
        raise FieldError(
            f"'spread'; it is over a trial's seeds, and task.seeds is {seeds}; must be with at"
            " least 2",
            at=at,
        )
    if measure.kind.of_agents and over_seeds == "iqm" and seeds < _IQM_SEEDS:
        raise FieldError(
            f"'iqm'; over {seeds} seeds that is the mean; must be \"mean\", or task.seeds at least"
            f" {_IQM_SEEDS}",
            at="over_seeds",
        )
