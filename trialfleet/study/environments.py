"""What a study file may put around an environment: arguments, and wrappers with theirs."""

from __future__ import annotations

import json
import keyword
import math
import re
from dataclasses import dataclass
from typing import Any

from trialfleet.checking.imports import IMPORTED
from trialfleet.checking.mistakes import FieldError, Gathering, shown_key, under
from trialfleet.checking.rules import Rule

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MOST = 100  # values in a table or list
_DEPTH = 4
_WRAPPERS = 20
# Arguments of gymnasium.make itself, and who sets them.
_TAKEN = {
    "id": "which is task.env",
    "max_episode_steps": "which is task.max_episode_steps",
    "disable_env_checker": "which is always true",
    "render_mode": "which `trialfleet play` sets",
}


class Table(dict[str, Any]):
    """A table that nobody changes, so that a study can be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


@dataclass(frozen=True)
class Arguments(Rule):
    """Keyword arguments: a table of numbers, flags, texts, lists and tables of those."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return f"a table of at most {_MOST} arguments by name"

    def check(self, value: object) -> Table:
        """The table."""
        if not isinstance(value, dict) or len(value) > _MOST:
            raise self.refusal(value)
        found = {}
        with Gathering() as gathering:
            for name, each in value.items():
                with gathering.under():
                    if name in _TAKEN:
                        raise FieldError(f"{_TAKEN[name]}; must be left out here", at=name)
                    found[_name(name)] = _argument(name, each, _DEPTH)
        return Table(found)


@dataclass(frozen=True)
class Wrappers(Rule):
    """A list of wrappers, the innermost first."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return (
            f'a list of at most {_WRAPPERS} wrappers, each "module:Class" or '
            '{ name = "module:Class", arguments }'
        )

    def check(self, value: object) -> tuple[Table, ...]:
        """The wrappers, each as a table with its name."""
        if not isinstance(value, list | tuple) or len(value) > _WRAPPERS:
            raise self.refusal(value)
        found = []
        with Gathering() as gathering:
            for place, each in enumerate(value):
                table = {"name": each} if isinstance(each, str) else each
                with gathering.under(f"[{place}]"):
                    if not isinstance(table, dict):
                        raise self.refusal(value)
                    if "name" not in table:
                        raise FieldError('is missing; must be "module:Class"', at="name")
                    with under("name"):
                        name = IMPORTED.check(table["name"])
                    rest = {key: each for key, each in table.items() if key != "name"}
                    found.append(Table({"name": name, **Arguments().check(rest)}))
        return tuple(found)


def _name(name: str) -> str:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise FieldError("must be the name of an argument", at=shown_key(name))
    return name


def _argument(name: str, value: object, depth: int) -> Any:
    match value:
        case bool() | str() | int() if not isinstance(value, int) or abs(value) < 2**63:
            return value
        case float() if math.isfinite(value):
            return value + 0.0
        case list() | tuple() if depth and len(value) <= _MOST:
            return [_argument(name, each, depth - 1) for each in value]
        case dict() if depth and len(value) <= _MOST:
            return {str(key): _argument(name, each, depth - 1) for key, each in value.items()}
    raise FieldError(
        "must be a finite number, true, false, text, or a list or table of those",
        at=shown_key(name),
    )
