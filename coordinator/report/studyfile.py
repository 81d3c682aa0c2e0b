"""A stored study as a study file again."""

from __future__ import annotations

import json
import math
from typing import Any

from trialfleet.study.spec import Spec


def as_toml(spec: Spec) -> str:
    """A study file that means this study, with every default written out."""
    tables = spec.model_dump(mode="json", exclude_none=True)
    lines = [f"{key} = {_value(value)}" for key, value in tables.items() if not _table(value)]
    for name, table in tables.items():
        if _table(table):
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{key} = {_value(each)}" for key, each in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return json.dumps(value)  # of strings, numbers and booleans both have the same text
