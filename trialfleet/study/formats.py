"""The forms in which versions of Trialfleet have stored studies, and how older ones are read.

A stored study has every default written out, so a later version's defaults change nothing in it.
Whoever adds, renames or redefines a field of the study file raises FORMAT, and adds a step that
says in the new form what the old one meant. A field that stays out of the text where it says
nothing (`task.returns`), or a value that none had before (the table `final.confirm`), needs no new
form: a version that does not know it refuses it by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from trialfleet.errors import VersionMismatchError

FORMAT = 5
Tables = dict[str, Any]


def stored(tables: Mapping[str, Any]) -> Tables:
    """The tables of a study file with the number of their form."""
    return {"format": FORMAT, **tables}


def digest(text: str) -> str:
    """SHA-256 of a stored study's text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def migrated(tables: Mapping[str, Any]) -> Tables:
    """The tables of a stored study in the form of this version.

    Raises:
        VersionMismatchError: They have the form of a later version.
    """
    found = tables.get("format", 1)  # 0.1.0 wrote no number
    if type(found) is not int or not 1 <= found <= FORMAT:
        raise VersionMismatchError(
            f"the study as stored has format {found!r}, this version reads formats 1 to {FORMAT}"
        )
    result = {name: value for name, value in tables.items() if name != "format"}
    for step in range(found, FORMAT):
        result = _STEPS[step](result)
    return result


def _algorithms(tables: Tables) -> Tables:
    """There was one algorithm. The time limits change no result: a study gets today's defaults."""
    task = tables.get("task", {})
    return {**tables, "task": {"algorithm": "dqn", **task}} if isinstance(task, dict) else tables


def _audit(tables: Tables) -> Tables:
    """No pruned trial was trained on."""
    search = tables.get("search", {})
    return {**tables, "search": {"audit": 0.0, **search}} if isinstance(search, dict) else tables


def _choices_of_later(tables: Tables) -> Tables:
    """What format 4 lets a study ask for, it did not ask for.

    A trial's value was its score, the mean over its agents, whatever else it came to.
    """
    search = tables.get("search", {})
    if not isinstance(search, dict):
        return tables
    before = {"objectives": ["score:max"], "over_seeds": "mean"}
    return {"constraints": [], **tables, "search": {**before, **search}}


def _fixed_stage(tables: Tables) -> Tables:
    """All finalists got all seeds, and nobody was confirmed."""
    final = tables.get("final", {})
    if not isinstance(final, dict):
        return tables
    before = {"race": False, "top": 3, "seeds": 10, "confirm": 0}
    return {**tables, "final": {**before, **final}}


_STEPS: Mapping[int, Callable[[Tables], Tables]] = {
    1: _algorithms,
    2: _audit,
    3: _choices_of_later,
    4: _fixed_stage,
}
