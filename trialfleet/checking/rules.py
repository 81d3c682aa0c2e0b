"""Rules: which values a field of a study file takes, and what to say of the others.

TOML knows more than a study file may hold: dates, `nan`, `inf`, integers of any length. And Python
takes `True` for 1. So each rule here names the one kind of value it takes.

A rule annotates a field of a pydantic model, or stands in a dataclass (`knob`). This module does
not import pydantic, so that an algorithm can declare its hyperparameters without it.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from trialfleet.checking.mistakes import FieldError, nearest, shown

T = TypeVar("T")
RULE = "rule"  # the key of a knob's rule in its dataclass field's metadata


def knob(default: T, rule: Rule) -> T:
    """A dataclass field with this default, which a study file sets within this rule."""
    return dataclasses.field(default=default, metadata={RULE: rule})


class Rule:
    """Which values a field takes."""

    @property
    def allowed(self) -> str:
        """The values it takes, to follow "must be"."""
        raise NotImplementedError

    def check(self, value: object) -> Any:
        """The value in its one form; raises FieldError where it is not allowed."""
        raise NotImplementedError

    def refusal(self, value: object, hint: str = "") -> FieldError:
        """That the value is not among those allowed."""
        return FieldError(f"{shown(value)}; must be {self.allowed}{hint}")

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> dict[str, object]:
        # Pydantic's hook for annotations; its schemas are plain data. The rule alone decides what
        # the field takes, and the field's type plays no part in writing it.
        function = {"type": "no-info", "function": self.check}
        return {"type": "function-plain", "function": function}


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number from low to high, or one of the extra values outside of that range."""

    low: int
    high: int
    extra: tuple[int, ...] = ()

    @property
    def allowed(self) -> str:
        """The values it takes."""
        others = "".join(f"{value} or " for value in self.extra)
        return f"{others}a whole number from {self.low} to {self.high}"

    def check(self, value: object) -> int:
        """The number itself."""
        if type(value) is int and (self.low <= value <= self.high or value in self.extra):
            return value
        hint = ""
        if isinstance(value, float) and value.is_integer() and self.low <= value <= self.high:
            hint = f"; write {int(value):_}"  # TOML's 2e4 is no whole number
        raise self.refusal(value, hint)


@dataclass(frozen=True)
class Real(Rule):
    """A finite number from low to high; low itself is not allowed if `exclusive_low`."""

    low: float
    high: float
    exclusive_low: bool = False

    @property
    def allowed(self) -> str:
        """The values it takes."""
        if self.exclusive_low:
            return f"a number above {self.low:.10g} and at most {self.high:.10g}"
        return f"a number from {self.low:.10g} to {self.high:.10g}"

    def check(self, value: object) -> float:
        """The number as a float: a whole number is fine where any is."""
        # NaN fails both comparisons, and an integer too long for a float fails the second.
        if (
            type(value) in (int, float)
            and isinstance(value, int | float)
            and self.low <= value <= self.high
            and not (self.exclusive_low and value == self.low)
        ):
            return float(value) + 0.0  # -0.0 becomes 0.0: one value, one digest
        raise self.refusal(value)


@dataclass(frozen=True)
class Flag(Rule):
    """True or false."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return "true or false"

    def check(self, value: object) -> bool:
        """The flag itself."""
        if isinstance(value, bool):
            return value
        raise self.refusal(value)


@dataclass(frozen=True)
class OneOf(Rule):
    """One of a few names."""

    names: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return "one of " + ", ".join(f'"{name}"' for name in self.names)

    def check(self, value: object) -> str:
        """The name itself."""
        if isinstance(value, str) and value in self.names:
            return value
        raise self.refusal(value, nearest(value, self.names))


@dataclass(frozen=True)
class Pattern(Rule):
    """Text that matches a pattern; `described` says which, to follow "must be"."""

    form: re.Pattern[str]
    described: str

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return self.described

    def check(self, value: object) -> str:
        """The text itself."""
        if isinstance(value, str) and self.form.fullmatch(value):
            return value
        raise self.refusal(value)


@dataclass(frozen=True)
class Widths(Rule):
    """The widths of a network's hidden layers, input side first."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return "a list of 1 to 4 widths, each a whole number from 1 to 4096"

    def check(self, value: object) -> tuple[int, ...]:
        """The widths as a tuple."""
        if (
            isinstance(value, list | tuple)
            and 1 <= len(value) <= 4
            and all(type(width) is int and 1 <= width <= 4096 for width in value)
        ):
            return tuple(value)
        raise self.refusal(value)
