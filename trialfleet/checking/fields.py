"""What the fields of a study file are made of: checks that say what was found and what may be.

TOML knows more than a study file may hold: dates, `nan`, `inf`, integers of any length. And Python
takes `True` for 1. So each check here names the one kind of value it takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict
from pydantic_core import CoreSchema, core_schema

from trialfleet.checking.mistakes import FieldError, nearest, shown


class Strict(BaseModel):
    """A table of the study file: its keys are known, its values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Checked:
    """A field's annotation: this check alone decides what the field takes.

    Unlike pydantic's PlainValidator it leaves the field's type out of serializing, so that a union
    of tables is written as what it holds, without warnings about what it does not.
    """

    check: Callable[[object], Any]

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)


class Rule(Protocol):
    """Which values a field takes."""

    @property
    def words(self) -> str:
        """What is allowed, to follow "must be"."""

    def check(self, value: object) -> Any:
        """The value in its one form; raises FieldError where it is not allowed."""


@dataclass(frozen=True)
class Whole:
    """A whole number from low to high; `also` are single values outside of that range."""

    low: int
    high: int
    also: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """What is allowed."""
        others = "".join(f"{value} or " for value in self.also)
        return f"{others}a whole number from {self.low} to {self.high}"

    def check(self, value: object) -> int:
        """The number itself."""
        if type(value) is int and (self.low <= value <= self.high or value in self.also):
            return value
        raise FieldError(f"{shown(value)}; must be {self.words}")


@dataclass(frozen=True)
class Real:
    """A finite number from low to high; `above` leaves low itself out."""

    low: float
    high: float
    above: bool = False

    @property
    def words(self) -> str:
        """What is allowed."""
        if self.above:
            return f"a number above {self.low:g} and at most {self.high:g}"
        return f"a number from {self.low:g} to {self.high:g}"

    def check(self, value: object) -> float:
        """The number as a float: a whole number is fine where any is."""
        # NaN fails both comparisons, and an integer too long for a float fails the second.
        if (
            type(value) in (int, float)
            and isinstance(value, int | float)
            and self.low <= value <= self.high
            and not (self.above and value == self.low)
        ):
            return float(value) + 0.0  # -0.0 becomes 0.0: one value, one digest
        raise FieldError(f"{shown(value)}; must be {self.words}")


@dataclass(frozen=True)
class Flag:
    """True or false."""

    words: str = "true or false"

    def check(self, value: object) -> bool:
        """The flag itself."""
        if isinstance(value, bool):
            return value
        raise FieldError(f"{shown(value)}; must be {self.words}")


@dataclass(frozen=True)
class OneOf:
    """One of a few names."""

    names: tuple[str, ...]

    @property
    def words(self) -> str:
        """What is allowed."""
        return "one of " + ", ".join(f'"{name}"' for name in self.names)

    def check(self, value: object) -> str:
        """The name itself."""
        if isinstance(value, str) and value in self.names:
            return value
        raise FieldError(f"{shown(value)}; must be {self.words}{nearest(value, self.names)}")


@dataclass(frozen=True)
class Pattern:
    """Text of a certain form."""

    form: re.Pattern[str]
    words: str

    def check(self, value: object) -> str:
        """The text itself."""
        if isinstance(value, str) and self.form.fullmatch(value):
            return value
        raise FieldError(f"{shown(value)}; must be {self.words}")


@dataclass(frozen=True)
class Widths:
    """The widths of a network's hidden layers, input side first."""

    words: str = "a list of 1 to 4 widths, each a whole number from 1 to 4096"

    def check(self, value: object) -> tuple[int, ...]:
        """The widths as a tuple."""
        if (
            isinstance(value, list | tuple)
            and 1 <= len(value) <= 4
            and all(type(width) is int and 1 <= width <= 4096 for width in value)
        ):
            return tuple(value)
        raise FieldError(f"{shown(value)}; must be {self.words}")
