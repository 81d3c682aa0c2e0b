"""Knobs that exist only under another's choice: { …, when = { double_q = true } }."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trialfleet.checking.mistakes import FieldError, shown, shown_key, unknown_key

# The knob that it depends on, and under which of its choices it exists; all of them must hold.
When = tuple[tuple[str, tuple[Any, ...]], ...]


def read_when(value: object) -> When:
    """The table `when` as it was given; what it names is checked once all knobs are known."""
    if not isinstance(value, dict) or not value:
        raise FieldError(
            f"{shown(value)}; must be a table of other knobs and their choices"
            " such as { double_q = true }",
            at="when",
        )
    return tuple((name, (given,)) for name, given in value.items())


def resolved(name: str, when: When, choices: Mapping[str, tuple[Any, ...] | None]) -> When:
    """The conditions of a knob, each value one of the other knob's choices.

    Args:
        name: The knob's.
        when: As `read_when` found it.
        choices: Of each knob; None of one that is fixed or a range.

    Raises:
        FieldError: A condition names no other knob with choices, or no choice of it.
    """
    found = []
    for other, (given,) in when:
        at = f"when.{shown_key(other)}"
        if other not in choices:
            raise unknown_key(other, choices).under("when")
        if other == name:
            raise FieldError("is the knob itself; must be another one", at=at)
        known = choices[other]
        if known is None:
            raise FieldError("has no choices; must be a knob with choices = […]", at=at)
        values = _among(given, known)
        if values is None:
            raise FieldError(f"{shown(given)}; must be one of its choices, or a list", at=at)
        if len(values) == len(known):
            raise FieldError("are all of its choices; must leave one out", at=at)
        found.append((other, values))
    return tuple(found)


def _among(given: object, known: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The choices that are meant; a list is one of them, or several."""
    for values in ([given], given):
        if isinstance(values, list | tuple) and values:
            chosen = [choice for choice in known for value in values if same(value, choice)]
            if len(chosen) == len(values):
                return tuple(chosen)
    return None


def same(value: object, choice: object) -> bool:
    """Whether a value of a study file is this choice: 1 is 1.0, and neither is true."""
    if isinstance(value, list):
        value = tuple(value)
    return isinstance(value, bool) == isinstance(choice, bool) and value == choice


def in_order(conditions: Mapping[str, When]) -> list[str]:
    """The knobs with those that others depend on before these, else in their own order.

    Raises:
        FieldError: Two depend on each other.
    """
    found: list[str] = []

    def add(name: str, below: tuple[str, ...]) -> None:
        if name in below:
            circle = " and ".join(below[below.index(name) :])
            raise FieldError(
                f"{circle} depend on each other; one of them must exist always", at=f"{name}.when"
            )
        for other, _ in conditions[name]:
            add(other, (*below, name))
        if name not in found:
            found.append(name)

    for name in conditions:
        add(name, ())
    return found
