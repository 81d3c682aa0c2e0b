"""Knobs, the hyperparameters of an algorithm: each is a fixed value, a range, or a list of choices.

Which knobs there are, and what each takes, is declared by the algorithm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from trialfleet.checking.mistakes import FieldError, first, shown, under, unknown_key
from trialfleet.checking.rules import RULE, Flag, Real, Rule, Whole

if TYPE_CHECKING:
    from trialfleet.search.algorithms import Params


@dataclass(frozen=True, kw_only=True)
class IntRange:
    """Every whole number from low to high, or every step-th of them."""

    low: int
    high: int
    log: bool = False  # drawn evenly on a logarithmic scale
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class FloatRange:
    """Every number from low to high, or those a whole number of steps above low."""

    low: float
    high: float
    log: bool = False  # drawn evenly on a logarithmic scale
    step: float | None = None


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One of a list of values, all legal for the knob and all different."""

    choices: tuple[Any, ...]


Range = IntRange | FloatRange
Searched = IntRange | FloatRange | Choices
Knob = bool | int | float | str | tuple[Any, ...] | Searched

_MAX_CHOICES = 1_000
_MAX_STEPS = 1_000_000_000


class SearchSpace(Mapping[str, Knob]):
    """An algorithm's knobs by name, in the order in which the algorithm declares them."""

    def __init__(self, knobs: Mapping[str, Knob]) -> None:
        self._knobs = dict(knobs)

    @classmethod
    def read(cls, table: object, params: type[Params]) -> SearchSpace:
        """What a study file's table says of the knobs declared; the others keep their defaults.

        Raises:
            FieldError: Anything is wrong with the table; misspelled keys come first.
        """
        if isinstance(table, SearchSpace):
            table = table.as_table()
        if not isinstance(table, dict):
            raise FieldError(f"{shown(table)}; must be a table")
        declared = {field.name: field for field in dataclasses.fields(params)}
        for key in table:
            if key not in declared:
                raise unknown_key(key, declared)
        knobs: dict[str, Any] = {name: field.default for name, field in declared.items()}
        problems = []
        for name in declared:
            if name in table:
                try:
                    knobs[name] = _knob(table[name], declared[name].metadata[RULE])
                except FieldError as problem:
                    problems.append(problem.under(name))
        if problems:
            raise first(problems)
        return cls(knobs)

    def __getitem__(self, name: str) -> Knob:
        return self._knobs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._knobs)

    def __len__(self) -> int:
        return len(self._knobs)

    def __hash__(self) -> int:
        return hash(tuple(self._knobs.items()))

    def __repr__(self) -> str:
        return f"SearchSpace({self._knobs!r})"

    def searched(self) -> dict[str, Searched]:
        """The knobs that a sampler sets."""
        return {name: knob for name, knob in self.items() if isinstance(knob, Searched)}

    def smallest(self, name: str) -> int:
        """The least value that the knob, a whole number, can take."""
        return int(min(self._ends(name)))

    def largest(self, name: str) -> int:
        """The greatest value that the knob, a whole number, can take."""
        return int(max(self._ends(name)))

    def as_table(self) -> dict[str, Any]:
        """As a study file says it, with every default written out."""
        return {
            name: _without_none(asdict(knob)) if isinstance(knob, Searched) else knob
            for name, knob in self.items()
        }

    def _ends(self, name: str) -> tuple[Any, ...]:
        match self[name]:
            case IntRange() as knob:
                return knob.low, knob.high
            case Choices() as knob:
                return knob.choices
            case value:
                return (value,)


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _knob(value: object, rule: Rule) -> Knob:
    if isinstance(value, Searched):
        value = _without_none(asdict(value))
    if not isinstance(value, dict):
        checked: Knob = rule.check(value)
        return checked
    for key in value:
        if key not in ("low", "high", "log", "step", "choices"):
            raise unknown_key(key, ("low", "high", "log", "step", "choices"))
    if "choices" in value:
        return _choices(value, rule)
    if isinstance(rule, Whole | Real):
        return _range(value, rule)
    raise FieldError("a range; must be a list of choices, { choices = […] }, or a plain value")


def _choices(table: dict[str, object], rule: Rule) -> Choices:
    for key in table:
        if key != "choices":
            raise FieldError("goes with low and high; must not stand beside choices", at=key)
    given = table["choices"]
    if not isinstance(given, list | tuple) or not 1 <= len(given) <= _MAX_CHOICES:
        found = "an empty list" if given in ([], ()) else shown(given)
        raise FieldError(f"{found}; must be a list of 1 to {_MAX_CHOICES} values", at="choices")
    values: list[object] = []
    for position, each in enumerate(given):
        at = f"choices[{position}]"
        value = _checked(at, rule, each)
        if value in values:
            raise FieldError(f"{shown(each)} is there twice; must be unlike the others", at=at)
        values.append(value)
    return Choices(choices=tuple(values))


def _range(table: dict[str, object], rule: Whole | Real) -> Range:
    # A range takes no single values outside of the rule's own: between them lie illegal ones.
    ends = Whole(rule.low, rule.high) if isinstance(rule, Whole) else rule
    for key in ("low", "high"):
        if key not in table:
            raise FieldError("is missing; a range must have low and high", at=key)
    low, high = (_checked(key, ends, table[key]) for key in ("low", "high"))
    log = _checked("log", Flag(), table.get("log", False))
    if low == high:
        raise FieldError(
            f"{shown(low)} is also high; must be below it; or use a plain value", at="low"
        )
    if low > high:
        raise FieldError(f"{shown(low)} is above high ({shown(high)}); must be below it", at="low")
    if log and low <= 0:
        raise FieldError(f"{shown(low)}; must be above 0 where log = true", at="low")
    step = None
    if "step" in table:
        if log:
            raise FieldError("stands beside log = true; must be left out there", at="step")
        step = _step(table["step"], low, high, whole=isinstance(rule, Whole))
    if isinstance(rule, Whole):
        return IntRange(low=low, high=high, log=log, step=step)
    return FloatRange(low=low, high=high, log=log, step=step)


def _step(value: object, low: Any, high: Any, *, whole: bool) -> Any:
    # In decimals, as the user wrote them: 0.3 is three steps of 0.1, which floats deny.
    width = Decimal(str(high)) - Decimal(str(low))
    rule: Rule = Whole(1, int(width)) if whole else Real(0, float(width), exclusive_low=True)
    step = _checked("step", rule, value)
    if float(width) / step > _MAX_STEPS:
        raise FieldError(
            f"{shown(step)} is too small; must take at most {_MAX_STEPS} steps", at="step"
        )
    reached = (width // Decimal(str(step))) * Decimal(str(step)) + Decimal(str(low))
    if reached != Decimal(str(high)):
        raise FieldError(
            f"{shown(step)} leads from {shown(low)} to {reached}, past which high ({shown(high)})"
            f" is not reached; must divide the range (or use high = {reached})",
            at="step",
        )
    return step


def _checked(key: str, rule: Rule, value: object) -> Any:
    with under(key):
        return rule.check(value)
