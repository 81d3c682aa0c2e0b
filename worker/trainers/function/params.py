"""The parameters of a training of one's own: whatever names and values [parameters] has."""

from __future__ import annotations

import dataclasses
import keyword
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialfleet.checking.mistakes import FieldError, Gathering, shown_key
from trialfleet.checking.rules import Real, Rule, Whole, knob

if TYPE_CHECKING:
    from trialfleet.search.knobs import SearchSpace
    from trialfleet.study.task import Task

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MOST = 2**53  # whole numbers up to here are the same to everybody, samplers included
_LARGEST = 1e300


@dataclass(frozen=True)
class Free(Rule):
    """A value that a function takes as it is: a number, a flag, a text, or a list of those."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return "a finite number, true, false, text of at most 500 characters, or a list of those"

    def check(self, value: object) -> Any:
        """The value; a list as a tuple."""
        if isinstance(value, list | tuple) and len(value) <= 100:
            return tuple(self._scalar(each, value) for each in value)
        return self._scalar(value, value)

    def _scalar(self, value: object, whole: object) -> Any:
        match value:
            case bool():
                return value
            case int() if -_MOST <= value <= _MOST:
                return value
            case float() if math.isfinite(value) and abs(value) <= _LARGEST:
                return value + 0.0
            case str() if len(value) <= 500 and value.isprintable():
                return value
        raise self.refusal(whole)


class _Parameters:
    @staticmethod
    def check(space: SearchSpace, task: Task) -> None:
        """Nothing: the function alone knows what goes together."""

    @staticmethod
    def learns_by(space: SearchSpace) -> int:
        """Nobody but the function knows."""
        return 0


def declare(table: object) -> type[_Parameters]:
    """The parameters that the table has, each with the rule that its own value asks for.

    Raises:
        FieldError: A name is none that a function's argument could have.
    """
    fields: list[tuple[str, type, Any]] = []
    with Gathering() as gathering:
        for name, value in table.items() if isinstance(table, dict) else ():
            with gathering.under(shown_key(name)):
                if not _NAME.fullmatch(name) or keyword.iskeyword(name):
                    raise FieldError(
                        "must be a name of letters, digits and underscores, and no word of Python's"
                    )
            fields.append((name, object, knob(None, _rule(value))))
    return dataclasses.make_dataclass(
        "Params", fields, bases=(_Parameters,), frozen=True, kw_only=True
    )


def _rule(value: object) -> Rule:
    if not isinstance(value, dict) or not {"low", "high"} & value.keys():
        return Free()
    ends = [value[key] for key in ("low", "high", "step") if key in value]
    if all(type(end) is int for end in ends):
        return Whole(-_MOST, _MOST)
    return Real(-_LARGEST, _LARGEST)
