"""A stored study as a study file again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from trialfleet.study.spec import Spec

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def as_toml(spec: Spec) -> str:
    """A study file that means this study, with every default written out."""
    tables = spec.as_tables()
    plain = {key: value for key, value in tables.items() if not (_table(value) or _tables(value))}
    lines = _fields(plain)
    for name, table in tables.items():
        if _table(table):
            lines += ["", f"[{name}]", *_fields(table)]
        elif _tables(table):
            for each in table:
                lines += ["", f"[[{name}]]", *_fields(each)]
    return "\n".join(lines) + "\n"


def _fields(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_table, value))


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(_fields(value))} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return json.dumps(value)  # of strings, numbers and booleans both have the same text
