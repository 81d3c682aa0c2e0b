"""The search space as Optuna knows it: the only calls of `suggest_*`, and the way back.

A parameter that does not exist in a trial is not among the trial's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from trialfleet.checking.mistakes import shown
from trialfleet.errors import StudyMismatchError
from trialfleet.search.conditions import in_order, same
from trialfleet.search.knobs import (
    Choices,
    FloatRange,
    IntRange,
    Knob,
    Layers,
    Searched,
    SearchSpace,
)
from trialfleet.search.parameters import Scalar, encoded, parameters


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The parameters' distributions, those that exist only in some trials among them."""
    return {each.name: _distribution(each.knob) for each in parameters(space)}


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """Every knob's value for this trial, the searched ones as the trial's sampler suggests them."""
    params: dict[str, Any] = {}
    for parameter in parameters(space):
        if not parameter.exists(params):
            continue
        name = parameter.name
        match parameter.knob:
            case Choices() as knob:
                params[name] = trial.suggest_categorical(name, _encoded(knob))
            case IntRange() as knob:
                params[name] = trial.suggest_int(
                    name, knob.low, knob.high, step=knob.step or 1, log=knob.log
                )
            case FloatRange() as knob:
                params[name] = trial.suggest_float(
                    name, knob.low, knob.high, step=knob.step, log=knob.log
                )
    return decode(params, space)


def decode(params: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Every knob's value, the searched ones from a trial's params.

    StudyMismatchError: the params are not those of a trial of this study.
    """
    values: dict[str, Any] = {}
    exists: dict[str, bool] = {}
    for name in in_order(space.conditions()):
        knob = space.searched()[name]
        exists[name] = all(
            exists[other] and values[other] in choices for other, choices in knob.when
        )
        if not exists[name]:
            values[name] = knob.otherwise
        elif isinstance(knob, Layers):
            values[name] = _widths(name, knob, params)
        else:
            values[name] = _decoded(name, _value(name, params), knob)
    return {name: values.get(name, knob) for name, knob in space.items()}


class ForeignTrialError(ValueError):
    """A trial that was not made by Trialfleet asks for what its study cannot give."""


def refuse_foreign(params: Mapping[str, Any], space: SearchSpace) -> None:
    """Return if each parameter that somebody has given a trial is one that a sampler could suggest.

    Optuna enqueues whatever it is told, and then trains it with no more than a warning.

    Args:
        params: As Optuna has them. Names that the study does not search have no effect.
        space: The study's.

    Raises:
        ForeignTrialError: One is not.
    """
    for parameter in parameters(space):
        name, knob = parameter.name, parameter.knob
        if name not in params or _holds(knob, params[name]):
            continue
        raise ForeignTrialError(
            f"somebody has enqueued {name} = {shown(params[name])}, which the study does not"
            f" search ({_searched(knob)[1]}); `trialfleet enqueue` checks what it is given"
        )


def _holds(knob: IntRange | FloatRange | Choices, value: Any) -> bool:
    if isinstance(knob, Choices):
        return any(same(value, each) for each in _encoded(knob))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    distribution = _distribution(knob)
    try:
        inside = distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, OverflowError):  # NaN, for one
        return False
    return inside and (isinstance(value, int) or isinstance(knob, FloatRange) or value.is_integer())


def describe(space: SearchSpace) -> list[tuple[str, str, str]]:
    """A row for each knob: its name, "fixed", "range", "choices" or "layers", and its values."""
    return [(name, *_described(knob)) for name, knob in space.items()]


def _distribution(knob: IntRange | FloatRange | Choices) -> BaseDistribution:
    match knob:
        case Choices():
            return CategoricalDistribution(_encoded(knob))
        case IntRange():
            return IntDistribution(knob.low, knob.high, step=knob.step or 1, log=knob.log)
        case FloatRange():
            return FloatDistribution(knob.low, knob.high, step=knob.step, log=knob.log)


def _encoded(knob: Choices) -> list[Scalar]:
    return [encoded(choice) for choice in knob.choices]


def _value(name: str, params: Mapping[str, Any]) -> Any:
    if name not in params:
        raise StudyMismatchError(f"a trial has no value for {name}, which the study searches")
    return params[name]


def _widths(name: str, knob: Layers, params: Mapping[str, Any]) -> tuple[int, ...]:
    def number(knob: int | IntRange | Choices, name: str) -> int:
        return knob if isinstance(knob, int) else int(_value(name, params))

    layers = number(knob.layers, f"{name}.layers")
    return tuple(number(knob.width, f"{name}.width_{layer}") for layer in range(1, layers + 1))


def _decoded(name: str, value: Any, knob: IntRange | FloatRange | Choices) -> Any:
    match knob:
        case Choices():
            for choice in knob.choices:
                if encoded(choice) == value:
                    return choice
            raise StudyMismatchError(f"a trial has {name} = {value!r}, not one of its choices")
        case IntRange():
            return int(value)
        case FloatRange():
            return float(value)


def _described(knob: Knob) -> tuple[str, str]:
    if not isinstance(knob, Searched):
        return "fixed", _text(knob)
    kind, values = _searched(knob)
    if not knob.when:
        return kind, values
    conditions = " and ".join(
        f"{name} is {' or '.join(map(_text, choices))}" for name, choices in knob.when
    )
    otherwise = "" if knob.otherwise is None else f", else {_text(knob.otherwise)}"
    return kind, f"{values}; only if {conditions}{otherwise}"


def _searched(knob: Searched) -> tuple[str, str]:
    match knob:
        case Choices():
            return "choices", ", ".join(_text(choice) for choice in knob.choices)
        case Layers():
            layers, width = (
                _text(each) if isinstance(each, int) else _searched(each)[1]
                for each in (knob.layers, knob.width)
            )
            return "layers", f"{layers} layers, each {width} wide"
    notes = (" (log)" if knob.log else "") + (
        f" (step {_text(knob.step)})" if knob.step is not None else ""
    )
    return "range", f"{_text(knob.low)} … {_text(knob.high)}{notes}"


def _text(value: Any) -> str:
    """As the study file would say it."""
    return value if isinstance(value, str) else json.dumps(value)
