"""What a trial may have as Optuna's parameters, said without Optuna.

A searched knob is one parameter of a trial, or several: a network by layers is their number, and a
width for each. Optuna's categorical choices are scalars, so a network's widths are stored as the
text "[64, 64]".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trialfleet.search.conditions import When, in_order
from trialfleet.search.knobs import Choices, FloatRange, IntRange, Layers, SearchSpace

Scalar = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a trial, as Optuna has it."""

    name: str
    knob: IntRange | FloatRange | Choices
    when: When  # which values other parameters have where it exists

    def exists(self, params: Mapping[str, Any]) -> bool:
        """Whether a trial with these parameters, which come before it, has this one."""
        return all(name in params and params[name] in values for name, values in self.when)


def parameters(space: SearchSpace) -> list[Parameter]:
    """What a trial may have, in the order of the space; those that others depend on before them."""
    found: list[Parameter] = []
    searched = space.searched()
    for name in in_order(space.conditions()):
        knob = searched[name]
        when = tuple((other, tuple(map(encoded, values))) for other, values in knob.when)
        if isinstance(knob, Layers):
            found += _of_layers(name, knob, when)
        else:
            found.append(Parameter(name=name, knob=knob, when=when))
    return found


def _of_layers(name: str, knob: Layers, when: When) -> list[Parameter]:
    found = []
    numbers = _numbers(knob.layers)
    if not isinstance(knob.layers, int):
        found.append(Parameter(name=f"{name}.layers", knob=knob.layers, when=when))
    if not isinstance(knob.width, int):
        for layer in range(1, max(numbers) + 1):
            deep = tuple(number for number in numbers if number >= layer)
            condition = ((f"{name}.layers", deep),) if len(deep) < len(numbers) else when
            found.append(Parameter(name=f"{name}.width_{layer}", knob=knob.width, when=condition))
    return found


def _numbers(layers: int | IntRange | Choices) -> tuple[int, ...]:
    """How many layers there may be."""
    match layers:
        case IntRange():
            return tuple(range(layers.low, layers.high + 1, layers.step or 1))
        case Choices():
            return layers.choices
    return (layers,)


def has_range(space: SearchSpace) -> bool:
    """Whether there is a parameter that a sampler can move along."""
    return any(not isinstance(each.knob, Choices) for each in parameters(space))


def encoded(value: Any) -> Scalar:
    """A searched knob's value as Optuna has it in a trial's params."""
    return json.dumps(value) if isinstance(value, tuple) else value


def encode(values: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Searched knobs' values as Optuna has them in a trial's params."""
    params: dict[str, Any] = {}
    for name, value in values.items():
        knob = space.searched()[name]
        if not isinstance(knob, Layers):
            params[name] = encoded(value)
            continue
        if not isinstance(knob.layers, int):
            params[f"{name}.layers"] = len(value)
        if not isinstance(knob.width, int):
            params |= {f"{name}.width_{layer}": width for layer, width in enumerate(value, 1)}
    return params
