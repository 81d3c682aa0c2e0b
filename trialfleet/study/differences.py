"""In which fields two studies differ, for people who have to tell them apart."""

from __future__ import annotations

import json
from typing import Any

from trialfleet.study.spec import Spec


def differences(a: Spec, b: Spec) -> list[str]:
    """One line for each field in which the stored study a ("there") and the given b differ."""
    there, here = _fields(a), _fields(b)
    return [
        f"{field}: {_toml(there.get(field))} there, {_toml(here.get(field))} here"
        for field in {**here, **there}
        if there.get(field) != here.get(field)
    ]


def _fields(spec: Spec) -> dict[str, Any]:
    """Every field by its dotted path; a knob, a sampler or a pruner is one field."""
    fields: dict[str, Any] = {}
    for name, value in spec.as_tables().items():
        if isinstance(value, dict):
            fields.update({f"{name}.{key}": below for key, below in value.items()})
        else:
            fields[name] = value
    return fields


def _toml(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)
