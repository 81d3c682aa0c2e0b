"""A configuration from elsewhere, as a table or another storage has it, in a study's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trialfleet.checking.mistakes import FieldError
from trialfleet.search import fixed
from trialfleet.search.conditions import in_order
from trialfleet.search.knobs import Choices, FloatRange, Knob, Layers, Searched, SearchSpace
from trialfleet.study.changes import toml_value


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
                raise FieldError(f"{value!r}; must be {knob!r}, as the study fixes it", at=name)
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
