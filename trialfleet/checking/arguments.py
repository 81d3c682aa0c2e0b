"""Keyword arguments of what a study file names as "module:Class", and the object made with them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from trialfleet.checking.imports import load, told
from trialfleet.checking.mistakes import FieldError, shown
from trialfleet.checking.rules import Rule

T = TypeVar("T")


class Arguments(Rule):
    """Keyword arguments: any names, and values that JSON has."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return "a table of keyword arguments such as { alpha = 0.1 }"

    def check(self, value: object) -> dict[str, Any]:
        """The arguments themselves."""
        if not isinstance(value, dict):
            raise self.refusal(value)
        for key, each in value.items():
            if not (isinstance(key, str) and key.isidentifier()):
                raise FieldError(f"{shown(key)}; must be an argument's name")
            if not _is_plain(each, depth=5):
                raise FieldError(
                    f"{shown(each)}; must be true, false, a finite number, text,"
                    " or a list or table of such",
                    at=key,
                )
        return value


def _is_plain(value: object, *, depth: int) -> bool:
    match value:
        case bool() | str():
            return True
        case int():
            return value.bit_length() <= 63
        case float():
            return math.isfinite(value)
        case list() | tuple():
            return depth > 0 and all(_is_plain(each, depth=depth - 1) for each in value)
        case dict():
            return depth > 0 and all(_is_plain(each, depth=depth - 1) for each in value.values())
    return False


def made(name: str, kind: type[T], args: Mapping[str, Any], **offered: Any) -> T:
    """An object of the class that a study file names.

    Args:
        name: "module:Class".
        kind: What it has to be.
        args: Keyword arguments from the study file.
        offered: More of them, for a constructor that names them.

    Raises:
        FieldError: As `load`; or it cannot be made with these arguments.
    """
    found = load(name, kind)
    try:
        known = inspect.signature(found).parameters
        more = {key: value for key, value in offered.items() if key in known}
        return found(**{**more, **args})
    except Exception as exc:  # its constructor is code that nobody here has read
        raise FieldError(
            f"{shown(name)} cannot be made with them: {told(exc)}; must be what its constructor"
            " takes",
            at="args",
        ) from exc
