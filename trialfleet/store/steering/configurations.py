"""A configuration from elsewhere, as a table or another storage has it, in a study's own terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trialfleet.checking.mistakes import FieldError, shown, unknown_key
from trialfleet.search import fixed
from trialfleet.search.conditions import in_order
from trialfleet.search.knobs import Choices, FloatRange, Knob, Layers, Searched, SearchSpace
from trialfleet.search.parameters import parameters
from trialfleet.study.changes import toml_value


@dataclass(frozen=True, kw_only=True)
class Names:
    """What is called otherwise elsewhere: hyperparameters, and choices of them."""

    renamed: Mapping[str, str] = field(default_factory=dict)  # theirs -> the study's
    # (the study's name, the choice's name there) -> its value here
    choices: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, renamed: Sequence[str], choices: Sequence[str], knobs: SearchSpace) -> Names:
        """What `--rename THERE=HERE` and `--choice KNOB:NAME=VALUE` say.

        Raises:
            FieldError: One of them says nothing of this study; at the option.
        """
        known = known_names(knobs)
        names: dict[str, str] = {}
        for given in renamed:
            theirs, equals, ours = given.partition("=")
            if not (theirs and equals):
                raise FieldError(
                    f"{shown(given)}; must be THERE=HERE, such as lr=learning_rate", at="--rename"
                )
            if ours not in known:
                raise unknown_key(ours, known).under("--rename")
            names[theirs] = ours
        values: dict[tuple[str, str], Any] = {}
        for given in choices:
            knob, colon, rest = given.partition(":")
            name, equals, value = rest.partition("=")
            if not (knob and colon and equals):
                raise FieldError(
                    f"{shown(given)}; must be KNOB:NAME=VALUE, such as net_arch:small=[64, 64]",
                    at="--choice",
                )
            if knob not in known:
                raise unknown_key(knob, known).under("--choice")
            try:
                values[knob, name] = toml_value(value)
            except FieldError as problem:
                raise problem.under(f"--choice.{knob}:{name}") from None
        return cls(renamed=names, choices=values)

    def ours(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration in the study's words."""
        found = {name: value for name, value in params.items() if name not in self.renamed}
        found |= {ours: params[theirs] for theirs, ours in self.renamed.items() if theirs in params}
        return {name: self.choices.get((name, str(value)), value) for name, value in found.items()}

    def others(self, everything: Iterable[Mapping[str, Any]], knobs: SearchSpace) -> list[str]:
        """Hyperparameters there that nobody has said what they are here; some, if they are many."""
        there = {name for params in everything for name in params}
        return sorted(there - {*known_names(knobs), *self.renamed})[:_SHOWN]

    def refuse_unused(self, everything: Iterable[Mapping[str, Any]]) -> None:
        """Refuse names that no configuration has: they are misspelled.

        Raises:
            FieldError: At the option.
        """
        there: set[str] = set()
        values: set[tuple[str, str]] = set()
        for params in everything:
            there |= params.keys()
            ours = {self.renamed.get(name, name): value for name, value in params.items()}
            values |= {(knob, str(ours[knob])) for knob, _ in self.choices if knob in ours}
        for theirs in self.renamed:
            if theirs not in there:
                raise FieldError(
                    f"no result has a hyperparameter {shown(theirs)};"
                    f" must be one of {', '.join(sorted(there)[:_SHOWN]) or 'none'}",
                    at="--rename",
                )
        for knob, name in self.choices:
            if (knob, name) not in values:
                those = sorted(value for each, value in values if each == knob)
                raise FieldError(
                    f"no result has {knob} = {shown(name)};"
                    f" must be one of {', '.join(map(shown, those[:_SHOWN])) or 'none'}",
                    at="--choice",
                )


_SHOWN = 20  # names in a message


def known_names(knobs: SearchSpace) -> list[str]:
    """The names of knobs, and of Optuna's parameters of those that are several."""
    return [*dict.fromkeys([*knobs, *(each.name for each in parameters(knobs))])]


def read(params: Mapping[str, Any], knobs: SearchSpace) -> dict[str, Any]:
    """The searched knobs that exist in this configuration, with their values.

    Args:
        params: Values, or text for them, by knobs or by Optuna's parameters; others may be there.
        knobs: The study's.

    Raises:
        FieldError: It is of another space.
    """
    for name, knob in knobs.items():
        if name in params and not isinstance(knob, Searched):
            value = _value(params[name], knob)
            if value != knob:
                raise FieldError(
                    f"{shown(value)}; must be {shown(knob)}, as the study fixes it", at=name
                )
    found: dict[str, Any] = {}
    searched = knobs.searched()
    for name in in_order(knobs.conditions()):
        knob = searched[name]
        if all(found.get(other, _NEVER) in choices for other, choices in knob.when):
            value = _told(name, knob, params)
            found |= fixed.checked({name: value}, knobs)
    return found


_NEVER = object()  # the value of a knob that does not exist


def _told(name: str, knob: Searched, params: Mapping[str, Any]) -> Any:
    if name in params or not isinstance(knob, Layers):
        return _value(_existing(name, params), knob)
    layers, width = knob.layers, knob.width
    if not isinstance(layers, int):
        layers = _value(_existing(f"{name}.layers", params), layers)
    if isinstance(width, int):
        return (width,) * layers
    if not isinstance(layers, int) or layers > len(params):
        return layers  # refused for what it is
    parts = [f"{name}.width_{layer}" for layer in range(1, layers + 1)]
    return tuple(_value(_existing(part, params), width) for part in parts)


def _existing(name: str, params: Mapping[str, Any]) -> Any:
    if name not in params:
        raise FieldError("is missing; must be given, as the study searches it", at=name)
    return params[name]


def _value(value: Any, knob: Knob) -> Any:
    """A value as the study file would have it: tables and Optuna keep some as text."""
    text_expected = isinstance(knob, str) or (
        isinstance(knob, Choices) and all(isinstance(each, str) for each in knob.choices)
    )
    if isinstance(value, str) and not text_expected:
        lower = value.strip().lower()
        try:
            value = toml_value(lower if lower in ("true", "false") else value)
        except FieldError:
            return value
    if isinstance(value, float) and value.is_integer() and not isinstance(knob, FloatRange | float):
        return int(value)  # pandas writes whole numbers so where others are missing
    return tuple(value) if isinstance(value, list) else value
