"""What is wrong with a study file, in words: where it is, what was found, what may be there.

Each piece of the user's own text is cut short and escaped, so that a message is one line of sane
length whatever the file holds.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

_SHOWN = 60  # characters of the user's own text that a message repeats


class FieldError(ValueError):
    """One mistake: where it is, below the field that is being checked, and what is wrong."""

    def __init__(self, text: str, *, at: str = "", unknown_key: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.at = at
        self.unknown_key = unknown_key

    def under(self, field: str) -> FieldError:
        """The same mistake, seen from the table around it."""
        return FieldError(self.text, at=dotted(field, self.at), unknown_key=self.unknown_key)


def shown(value: object) -> str:
    """The user's value, short and in one line whatever it holds."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            # Python refuses to print very long integers, and nobody would read one.
            return str(value) if value.bit_length() <= 128 else "a number of dozens of digits"
        case float():
            return repr(value)
        case str():
            # repr escapes line breaks, control characters and marks that turn the line around.
            return repr(value[:_SHOWN]) + ("…" if len(value) > _SHOWN else "")
        case list() | tuple():
            if len(value) <= 6 and not any(isinstance(item, list | tuple | dict) for item in value):
                text = "[" + ", ".join(map(shown, value)) + "]"
                return text if len(text) <= _SHOWN else "a list"
            return "a list"
        case dict():
            return "a table"
        case None:
            return "nothing"
    return "a date or time"


def shown_key(key: str) -> str:
    """A key as TOML would write it, short and in one line."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else shown(key)


def nearest(name: object, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """A hint at the known name that the user may have meant, or nothing."""
    if not isinstance(name, str) or len(name) > 200:
        return ""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=likeness)
    return f" (did you mean {close[0]}?)" if close else ""


def dotted(*parts: str) -> str:
    """The dotted path of a field, without its empty parts."""
    return ".".join(part for part in parts if part)


def unknown_key(key: str, known: Iterable[str]) -> FieldError:
    """A key that the table does not have."""
    known = list(known)
    hint = nearest(key, known) or f"; known here: {', '.join(known)}"
    return FieldError(f"unknown key{hint}", at=shown_key(key), unknown_key=True)


def explain(error: ValidationError, model: type[BaseModel]) -> FieldError:
    """The one mistake to report of all that pydantic found: misspelled keys come first."""
    problems = [_problem(dict(found), model) for found in error.errors(include_url=False)]
    return next((each for each in problems if each.unknown_key), problems[0])


def _problem(found: dict[str, Any], model: type[BaseModel]) -> FieldError:
    path = [str(part) for part in found["loc"]]
    if found["type"] == "extra_forbidden":
        return _unknown_in(model, path)
    where = dotted(*map(shown_key, path))
    if found["type"] == "missing":
        return FieldError("is missing; must be given", at=where)
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        return cause.under(where)
    if found["type"].startswith("model_"):
        return FieldError(f"{shown(found['input'])}; must be a table", at=where)
    return FieldError(f"{shown(found['input'])}; {found['msg']}", at=where)


def _unknown_in(model: type[BaseModel], path: list[str]) -> FieldError:
    tables = {name: _table(model, name) for name in model.model_fields}
    if len(path) > 1:
        below = tables[path[0]]
        assert below is not None, "pydantic forbids keys of tables only"
        return _unknown_in(below, path[1:]).under(path[0])
    key = path[0]
    for name, table in tables.items():
        typo = nearest(key, tables, likeness=0.8)
        if table is not None and key in table.model_fields and not typo:
            return FieldError(
                f"unknown key here; it belongs under [{name}]", at=key, unknown_key=True
            )
    return unknown_key(key, tables)


def _table(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    kind = model.model_fields[field].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
