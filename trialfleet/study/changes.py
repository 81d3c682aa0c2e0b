"""Changes to a study file on the command line: `--set search.trials=200`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trialfleet.checking.mistakes import FieldError, dotted, shown, shown_key

_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
# What may stand without quotes, as on the command lines of Hydra: names, ids, `module:Class`.
_BARE = re.compile(r"[A-Za-z0-9_.:/@+-]+")
# tomllib takes quadratic time over what never ends.
_LONGEST = 10_000


@dataclass(frozen=True)
class Change:
    """One field of a study file, and its value in place of the file's."""

    text: str  # as it was given
    path: tuple[str, ...]
    value: Any

    @classmethod
    def parse(cls, text: str, *, form: str = "FIELD=VALUE, such as search.trials=200") -> Change:
        """The change that `FIELD=VALUE` asks for; a refusal says that it must be `form`.

        Raises:
            FieldError: It is none.
        """
        field, equals, value = text.partition("=")
        path = tuple(field.strip().split("."))
        if not equals or not all(_KEY.fullmatch(key) for key in path):
            raise FieldError(f"{shown(text)}; must be {form}")
        try:
            return cls(text, path, toml_value(value))
        except FieldError as problem:
            raise problem.under(dotted(*path)) from None

    def apply(self, tables: dict[str, Any]) -> None:
        """Make the change in a study file's tables.

        Raises:
            FieldError: A field above this one is no table.
        """
        below = tables
        for depth, key in enumerate(self.path[:-1], start=1):
            below = below.setdefault(key, {})
            if not isinstance(below, dict):
                raise FieldError(
                    f"{shown(below)}; must be a table to have a field"
                    f" {shown_key(self.path[depth])}; set it as a whole",
                    at=dotted(*self.path[:depth]),
                )
        below[self.path[-1]] = self.value

    def concerns(self, field: str) -> bool:
        """Whether a mistake at this dotted field is one of this change."""
        own = dotted(*self.path)
        return f"{field}.".startswith((f"{own}.", f"{own}[")) or own.startswith(f"{field}.")


def toml_value(text: str) -> Any:
    """The value that this TOML stands for; a word without quotes is text.

    Raises:
        FieldError: It is neither.
    """
    text = text.strip()
    if len(text) <= _LONGEST:
        try:
            found = tomllib.loads(f"value = {text}")
        except (ValueError, RecursionError):  # ValueError: no TOML, or a number of 4300 digits
            if _BARE.fullmatch(text):
                return text
        else:
            if list(found) == ["value"]:
                return found["value"]
    raise FieldError(f"{shown(text)}; must be a TOML value, text with spaces in quotes")


def parse_changes(texts: Sequence[str]) -> list[Change]:
    """All changes, in their order.

    Raises:
        FieldError: One of them is none.
    """
    return [Change.parse(text) for text in texts]
