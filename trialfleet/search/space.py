"""The search space as Optuna knows it: the only calls of `suggest_*`, and the way back.

Optuna's categorical choices are scalars, so a network's widths are stored as the text "[64, 64]".
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

from trialfleet.errors import StudyMismatchError
from trialfleet.search.knobs import Choices, FloatRange, IntRange, Knob, Searched, SearchSpace

Scalar = bool | int | float | str


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The searched knobs' distributions, in the order of the space."""
    return {name: _distribution(knob) for name, knob in space.searched().items()}


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """Every knob's value for this trial, the searched ones as the trial's sampler suggests them."""
    params: dict[str, Any] = {}
    for name, knob in space.searched().items():
        match knob:
            case Choices():
                params[name] = trial.suggest_categorical(name, _encoded(knob))
            case IntRange():
                params[name] = trial.suggest_int(
                    name, knob.low, knob.high, step=knob.step or 1, log=knob.log
                )
            case FloatRange():
                params[name] = trial.suggest_float(
                    name, knob.low, knob.high, step=knob.step, log=knob.log
                )
    return decode(params, space)


def decode(params: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Every knob's value, the searched ones from a trial's params.

    StudyMismatchError: the params are not those of a trial of this study.
    """
    values: dict[str, Any] = {}
    for name, knob in space.items():
        if not isinstance(knob, Searched):
            values[name] = knob
        elif name not in params:
            raise StudyMismatchError(f"a trial has no value for {name}, which the study searches")
        else:
            values[name] = _decoded(name, params[name], knob)
    return values


def encoded(value: Any) -> Scalar:
    """A searched knob's value as Optuna has it in a trial's params."""
    return _encode(value)


def describe(space: SearchSpace) -> list[tuple[str, str, str]]:
    """A row for each knob: its name, "fixed", "range" or "choices", and its value or values."""
    return [(name, *_described(knob)) for name, knob in space.items()]


def _distribution(knob: Searched) -> BaseDistribution:
    match knob:
        case Choices():
            return CategoricalDistribution(_encoded(knob))
        case IntRange():
            return IntDistribution(knob.low, knob.high, step=knob.step or 1, log=knob.log)
        case FloatRange():
            return FloatDistribution(knob.low, knob.high, step=knob.step, log=knob.log)


def _encoded(knob: Choices) -> list[Scalar]:
    return [_encode(choice) for choice in knob.choices]


def _encode(choice: Any) -> Scalar:
    return json.dumps(choice) if isinstance(choice, tuple) else choice


def _decoded(name: str, value: Any, knob: Searched) -> Any:
    match knob:
        case Choices():
            for choice in knob.choices:
                if _encode(choice) == value:
                    return choice
            raise StudyMismatchError(f"a trial has {name} = {value!r}, not one of its choices")
        case IntRange():
            return int(value)
        case FloatRange():
            return float(value)


def _described(knob: Knob) -> tuple[str, str]:
    match knob:
        case Choices():
            return "choices", ", ".join(_text(choice) for choice in knob.choices)
        case IntRange() | FloatRange():
            notes = (" (log)" if knob.log else "") + (
                f" (step {_text(knob.step)})" if knob.step is not None else ""
            )
            return "range", f"{_text(knob.low)} … {_text(knob.high)}{notes}"
    return "fixed", _text(knob)


def _text(value: Any) -> str:
    """As the study file would say it."""
    return value if isinstance(value, str) else json.dumps(value)
