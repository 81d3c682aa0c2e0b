"""Knobs, the hyperparameters of an algorithm: each is a fixed value, a range, or a list of choices.

Which knobs there are, and what each takes, is declared by the algorithm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from trialfleet.checking.mistakes import FieldError, Gathering, shown, under, unknown_key
from trialfleet.checking.rules import RULE, Flag, Real, Rule, Whole, Widths
from trialfleet.search.conditions import When, in_order, read_when, resolved

if TYPE_CHECKING:
    from trialfleet.search.algorithms import Params


@dataclass(frozen=True, kw_only=True)
class _Conditional:
    when: When = ()  # under which choices of other knobs it exists; always, if there are none
    otherwise: Any = None  # its value where it does not


@dataclass(frozen=True, kw_only=True)
class IntRange(_Conditional):
    """Every whole number from low to high, or every step-th of them."""

    low: int
    high: int
    log: bool = False  # drawn evenly on a logarithmic scale
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class FloatRange(_Conditional):
    """Every number from low to high, or those a whole number of steps above low."""

    low: float
    high: float
    log: bool = False  # drawn evenly on a logarithmic scale
    step: float | None = None


@dataclass(frozen=True, kw_only=True)
class Choices(_Conditional):
    """One of a list of values, all legal for the knob and all different."""

    choices: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Layers(_Conditional):
    """Hidden layers: how many there are, and each one's width, chosen for itself."""

    layers: int | IntRange | Choices
    width: int | IntRange | Choices


Range = IntRange | FloatRange
Searched = IntRange | FloatRange | Choices | Layers
Knob = bool | int | float | str | tuple[Any, ...] | Searched

_MAX_CHOICES = 1_000
_MAX_STEPS = 1_000_000_000
_MAX_LAYERS, _MAX_WIDTH = 4, 4_096
_CONDITION = ("when", "otherwise")


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
        knobs: dict[str, Any] = {name: field.default for name, field in declared.items()}
        with Gathering() as gathering:
            for key in table:
                if key not in declared:
                    gathering.add(unknown_key(key, declared))
            for name in declared:
                if name in table:
                    field = declared[name]
                    with gathering.under(name):
                        knobs[name] = _knob(table[name], field.metadata[RULE], field.default)
        choices = {
            name: knob.choices if isinstance(knob, Choices) else None
            for name, knob in knobs.items()
        }
        with Gathering() as gathering:
            for name, knob in knobs.items():
                if isinstance(knob, Searched) and knob.when:
                    with gathering.under(name):
                        knobs[name] = replace(knob, when=resolved(name, knob.when, choices))
        in_order(cls(knobs).conditions())
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

    def conditions(self) -> dict[str, When]:
        """The searched knobs, each with what it depends on."""
        return {name: knob.when for name, knob in self.searched().items()}

    def fixing(self, values: Mapping[str, Any]) -> SearchSpace:
        """The space that is left where these searched knobs have these values.

        They are still searched, with one choice. A list of layers is then a choice like another.
        """
        knobs = dict(self._knobs)
        for name, value in values.items():
            knob = self.searched()[name]
            knobs[name] = Choices(choices=(value,), when=knob.when, otherwise=knob.otherwise)
        return SearchSpace(knobs)

    def smallest(self, name: str) -> int:
        """The least value that the knob, a whole number, can take."""
        return int(min(self._ends(name)))

    def largest(self, name: str) -> int:
        """The greatest value that the knob, a whole number, can take."""
        return int(max(self._ends(name)))

    def as_table(self) -> dict[str, Any]:
        """As a study file says it, with every default written out."""
        return {
            name: _table(knob) if isinstance(knob, Searched) else knob
            for name, knob in self.items()
        }

    def _ends(self, name: str) -> tuple[Any, ...]:
        match self[name]:
            case IntRange() as knob:
                ends: tuple[Any, ...] = (knob.low, knob.high)
            case Choices() as knob:
                ends = knob.choices
            case value:
                return (value,)
        return (*ends, knob.otherwise) if knob.when else ends


def _table(knob: Searched) -> dict[str, Any]:
    """A searched knob as a study file says it."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(knob):
        value = getattr(knob, field.name)
        if field.name == "when":
            value = {name: list(values) for name, values in value} or None
        elif isinstance(value, Searched):
            value = _table(value)
        if value is not None:
            found[field.name] = value
    return {key: found[key] for key in sorted(found, key=_CONDITION.__contains__)}


def _knob(value: object, rule: Rule, default: object) -> Knob:
    if isinstance(value, Searched):
        value = _table(value)
    if not isinstance(value, dict):
        try:
            checked: Knob = rule.check(value)
        except FieldError as mistake:
            if isinstance(value, list | tuple) and value:
                raise FieldError(
                    f"{mistake.text}; to search, {_as_searched(value, rule)}"
                ) from None
            raise
        return checked
    known = ("low", "high", "log", "step", "choices", "layers", "width", *_CONDITION)
    with Gathering() as gathering:
        for key in value:
            if key not in known and key not in _ELSEWHERE:
                gathering.add(unknown_key(key, known))
        if others := [key for key in value if key in _ELSEWHERE]:
            gathering.add(_elsewhere(others[0], value))
    table = {key: each for key, each in value.items() if key not in _CONDITION}
    knob = _searched(table, rule)
    if "when" in value:
        otherwise = (
            _checked("otherwise", rule, value["otherwise"]) if "otherwise" in value else default
        )
        return replace(knob, when=read_when(value["when"]), otherwise=otherwise)
    if "otherwise" in value:
        raise FieldError("stands without when; must stand beside it", at="otherwise")
    return knob


# What other tools call it.
_ELSEWHERE = {
    "min": "low",
    "max": "high",
    "lower": "low",
    "upper": "high",
    "q": "step",
    "values": "choices",
    "value": "a plain value without a table",
    "distribution": "log = true, or nothing",
}


def _elsewhere(key: str, table: dict[str, object]) -> FieldError:
    """A key as other tools have it, with the table as it is here."""
    ours = {_ELSEWHERE.get(name, name): each for name, each in table.items()}
    if {"low", "high"} <= ours.keys():
        hint = f"a range is {{ low = {shown(ours['low'])}, high = {shown(ours['high'])} }}"
    elif "choices" in ours:
        hint = f"choices are {{ choices = {_listed(ours['choices'])} }}"
    else:
        hint = f"here it is {_ELSEWHERE[key]}"
    return FieldError(f"unknown key; {hint}", at=key, unknown_key=True)


def _as_searched(value: list[object] | tuple[object, ...], rule: Rule) -> str:
    """How a list is written that was meant to be searched."""
    choices = f"write {{ choices = {_listed(value)} }}"
    if isinstance(rule, Whole | Real) and len(value) == 2:
        low, high = map(shown, value)
        return f"write {{ low = {low}, high = {high} }}, or {choices.removeprefix('write ')}"
    return choices


def _listed(value: object) -> str:
    found = shown(value)
    return found if found.startswith("[") else "[…]"


def _searched(table: dict[str, object], rule: Rule) -> Searched:
    if "layers" in table or "width" in table:
        return _layers(table, rule)
    if "choices" in table:
        return _choices(table, rule)
    if isinstance(rule, Whole | Real):
        return _range(table, rule)
    raise FieldError("a range; must be a list of choices, { choices = […] }, or a plain value")


def _layers(table: dict[str, object], rule: Rule) -> Layers:
    if not isinstance(rule, Widths):
        raise FieldError("layers and width; must be a plain value, a range or choices")
    for key in table:
        if key not in ("layers", "width"):
            raise FieldError("goes with other knobs; must not stand beside layers", at=key)
    for key in ("layers", "width"):
        if key not in table:
            raise FieldError("is missing; layers and width must both be given", at=key)
    with under("layers"):
        layers = _knob(table["layers"], Whole(1, _MAX_LAYERS), None)
    with under("width"):
        width = _knob(table["width"], Whole(1, _MAX_WIDTH), None)
    if not (isinstance(layers, Searched) or isinstance(width, Searched)):
        raise FieldError("are both plain numbers; must be a list of widths such as [64, 64]")
    for key, knob in (("layers", layers), ("width", width)):
        if isinstance(knob, Searched) and knob.when:
            raise FieldError("must stand beside layers and width, not within", at=f"{key}.when")
    return Layers(layers=layers, width=width)  # type: ignore[arg-type]  # the rule is Whole's


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
            # True is 1 to Python, and so to Optuna, which looks choices up.
            other = given[values.index(value)]
            same = isinstance(other, bool) == isinstance(each, bool)
            found = "is there twice" if same else f"is the same to Optuna as {shown(other)}"
            raise FieldError(f"{shown(each)} {found}; must be unlike the others", at=at)
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
