"""Reading results from elsewhere: a table in a CSV file."""

from __future__ import annotations

import ast
import csv
import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from trialfleet.errors import SourceError, SystemRefusedError
from trialfleet.store.steering.configurations import Names, known_names
from trialfleet.store.steering.importing import Result, measured_by, numbers_in
from trialfleet.study.constraints import without_bound
from trialfleet.study.measures import Objective
from trialfleet.study.spec import Spec

# In front of a column's name: our own tables, Optuna's data frames, its dashboard's tables.
_PARAMS = ("param.", "params_", "Param ", "")
_MEASURES = ("constraint.", "user_attrs_", "UserAttribute ", "")
# Columns of several values, by their place from 0.
_PLACED = ("value.{}", "values_{}", "Objective {}")
_ONE = ("value", "Value")
# Numbers of Optuna's constraints: one each, or a list of all.
_EXCESS = ("system_attrs_constraints:", "constraints_")
_ALL_EXCESS = "system_attrs_constraints"
# Our tables put this in front of text that a spreadsheet would run.
_QUOTE = "'"
_LONGEST = 10_000  # characters of a cell that holds several numbers
_SEPARATORS = ",;\t"
# When a trial began and ended, as Optuna's data frames say it.
_TIMES = ("datetime_start", "datetime_complete")

Row = dict[str, str]


def from_csv(path: Path, spec: Spec, names: Names | None = None) -> list[Result]:
    """The COMPLETE trials of a table: of ours (`report --csv`), of Optuna's, or anybody's.

    Where there is a column `state` or `stage`, rows of other states, and of a final stage, are left
    out. docs/steering.md has the names of the columns.

    Args:
        path: Of the file.
        spec: What the study asks for.
        names: What is called otherwise there.

    Raises:
        SourceError: It is no such table, or one of other objectives.
        SystemRefusedError: It cannot be read.
    """
    rows = _rows(path)
    columns = [name for name in (rows[0][1] if rows else ()) if isinstance(name, str)]
    values = _values(path, columns, spec.search.objectives)
    # Without a prefix a column may be anything, so it is one only by a name that we expect.
    expected = {*known_names(spec.agent), *(names or Names()).renamed}
    params = {
        name: column
        for prefix in reversed(_PARAMS)
        for column in columns
        if column.startswith(prefix)
        and (name := column.removeprefix(prefix))
        and (prefix or name in expected)
    }
    results = []
    for line, row in rows:
        if _other(row):
            continue
        number = row.get("number") or row.get("Number") or ""
        results.append(
            Result(
                where=path.name,
                number=int(number) if number.isascii() and number.isdigit() else None,
                line=line,
                values=[_required(path, line, row, column) for column in values],
                params={
                    name: row[column].removeprefix(_QUOTE)
                    for name, column in params.items()
                    if row[column]
                },
                measured=_measured(row, spec),
                excess={} if _ours(row) else _excess(row),
                ran=_times(row),
            )
        )
    return results


def _rows(path: Path) -> list[tuple[int, Row]]:
    """The rows, each with the line of the file that it ends on."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            separator = max(_SEPARATORS, key=header.count)
            file.seek(0)
            reader = csv.DictReader(file, restval="", delimiter=separator)
            return [(reader.line_num, row) for row in reader]
    except OSError as exc:
        raise SystemRefusedError.of(exc) from exc
    except (csv.Error, UnicodeDecodeError) as exc:
        raise SourceError(f"{path} is no CSV file: {exc}") from None


def _times(row: Row) -> list[datetime]:
    try:
        return [datetime.fromisoformat(row[column]) for column in _TIMES]
    except (KeyError, ValueError):
        return []


def _other(row: Row) -> bool:
    """Whether a row is no result of a search."""
    state = row.get("state") or row.get("State") or "COMPLETE"
    return state != "COMPLETE" or row.get("stage") not in (None, "", "search")


def _values(path: Path, columns: Sequence[str], objectives: Sequence[Objective]) -> list[str]:
    """The column of each objective."""
    count = len(objectives)
    for name in _ONE:
        if name in columns and count == 1:
            return [name]
    for pattern in _PLACED:
        found = [name for name in columns if _is(pattern, name)]
        if found and sorted(found) == sorted(pattern.format(place) for place in range(count)):
            return [pattern.format(place) for place in range(count)]
    names = [each.measure.name for each in objectives]
    for prefix in ("", "values_", "value_"):
        if all(f"{prefix}{name}" in columns for name in names):
            return [f"{prefix}{name}" for name in names]
    placed = max((sum(_is(each, name) for name in columns) for each in _PLACED), default=0)
    there = placed or sum(name in columns for name in _ONE[:1])
    if there:
        raise SourceError(
            f"{path} has values of {_amount(there)}, and the study has {_amount(count)}:"
            f" {', '.join(map(str, objectives))}"
        )
    wanted = "`value` or " if count == 1 else "`value.0`, `value.1` and so on, nor "
    raise SourceError(
        f"{path} has no column{'s' * (count > 1)} {wanted}{_listed(names)}, or no rows"
    )


def _is(pattern: str, name: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(re.escape("{}"), r"\d+"), name) is not None


def _amount(count: int) -> str:
    return f"{count} objective{'s' * (count > 1)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _required(path: Path, line: int, row: Row, column: str) -> float:
    value = _number(row[column])
    if value is None:
        raise SourceError(f"{path}: line {line}: {column} is {row[column]!r}, not a number")
    return value


def _measured(row: Row, spec: Spec) -> dict[str, float]:
    """What measures came to that the study bounds, as far as the row tells."""
    found: dict[str, float] = {}
    for ours in _ours(row):
        found |= measured_by(ours)
    for prefix in _MEASURES:
        for each in spec.constraints:
            for name in (each.measure.name, each.bounded, each.label):
                value = _number(row.get(f"{prefix}{name}"))
                if value is not None:
                    found[without_bound(name)] = value
    return found


def _ours(row: Row) -> list[dict[Any, Any]]:
    """The attribute `constraints` of a trial of ours, which has what was measured."""
    found = [_literal(row.get(f"{prefix}constraints")) for prefix in _MEASURES]
    return [each for each in found if isinstance(each, dict)]


def _excess(row: Row) -> dict[str, float]:
    """Optuna's numbers of constraints, as a data frame has them."""
    listed = _literal(row.get(_ALL_EXCESS))
    found: dict[Any, Any] = dict(enumerate(listed)) if isinstance(listed, list | tuple) else {}
    named = {
        name.removeprefix(prefix): _number(value)
        for prefix in _EXCESS
        for name, value in row.items()
        if isinstance(name, str) and name.startswith(prefix)
    }
    return numbers_in({str(key): value for key, value in {**found, **named}.items()})


def _literal(text: str | None) -> Any:
    """The Python value that a data frame has written as text; None if it is none."""
    try:
        return ast.literal_eval((text or "")[:_LONGEST])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
