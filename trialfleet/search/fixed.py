"""Configurations that a person asks for: values of searched knobs, checked against the space."""

from __future__ import annotations

import math
from typing import Any

from trialfleet.checking.mistakes import FieldError, Gathering, shown, under, unknown_key
from trialfleet.checking.rules import Widths
from trialfleet.search.conditions import same
from trialfleet.search.knobs import Choices, FloatRange, IntRange, Layers, Searched, SearchSpace


def checked(table: object, space: SearchSpace) -> dict[str, Any]:
    """The searched knobs that the table sets, each a value that a sampler could have suggested.

    The sampler chooses the others when a worker begins the trial.

    Raises:
        FieldError: Anything is wrong with the table.
    """
    if not isinstance(table, dict):
        raise FieldError(f"{shown(table)}; must be a table of searched knobs")
    searched = space.searched()
    if not table:
        names = ", ".join(searched) or "none here"
        raise FieldError(f"is empty; must set at least one searched knob ({names})")
    values = {}
    with Gathering() as gathering:
        for name, value in table.items():
            with gathering.under():
                if name not in space:
                    raise unknown_key(name, searched)
                if name not in searched:
                    raise FieldError(
                        "is fixed by the study file; must be a knob that is searched", at=name
                    )
                values[name] = _value(name, value, searched[name])
    return values


def _value(name: str, value: object, knob: Searched) -> Any:
    match knob:
        case Choices():
            for choice in knob.choices:
                if same(value, choice):
                    return choice
            raise FieldError(f"{shown(value)}; must be one of its choices", at=name)
        case Layers():
            with under(name):
                widths = Widths().check(value)
            _in_layers(name, "layers", len(widths), knob.layers)
            for width in widths:
                _in_layers(name, "width", width, knob.width)
            return widths
        case IntRange():
            step = knob.step or 1
            if type(value) is int and knob.low <= value <= knob.high:
                if (value - knob.low) % step == 0:
                    return value
                raise FieldError(_between(value, knob.low, step), at=name)
            kind = "a whole number"
        case FloatRange():
            # A whole number is fine where any is.
            if type(value) in (int, float) and knob.low <= float(value) <= knob.high:  # type: ignore[arg-type]
                steps = (float(value) - knob.low) / (knob.step or 1.0)  # type: ignore[arg-type]
                if knob.step is None or math.isclose(steps, round(steps), abs_tol=1e-8):
                    return float(value)  # type: ignore[arg-type]
                raise FieldError(_between(value, knob.low, knob.step), at=name)
            kind = "a number"
    raise FieldError(
        f"{shown(value)}; must be {kind} from {shown(knob.low)} to {shown(knob.high)}", at=name
    )


def _between(value: object, low: float, step: float) -> str:
    return f"{shown(value)}; must be a whole number of steps of {shown(step)} above {shown(low)}"


def _in_layers(name: str, what: str, value: int, knob: int | IntRange | Choices) -> None:
    if isinstance(knob, int):
        if value != knob:
            raise FieldError(f"has {what} = {value}; must have {knob}", at=name)
    else:
        _value(f"{name}.{what}", value, knob)
