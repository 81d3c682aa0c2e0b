"""Reading results from elsewhere: a table in a CSV file, or a study in any storage of Optuna's."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialfleet.errors import SystemRefusedError, UsageError
from trialfleet.escape import printable
from trialfleet.store.steering.importing import Known

if TYPE_CHECKING:
    pass

# A column of a hyperparameter: of our own tables, of Optuna's data frames, or just its name.
_PREFIXES = ("param.", "params_", "")
_VALUES = ("value", "score")
# Our tables put this in front of text that a spreadsheet would run.
_QUOTE = "'"


def from_csv(path: Path, knobs: list[str]) -> list[Known]:
    """The COMPLETE trials of a table: of ours (`report --csv`), of Optuna's, or anybody's.

    It has a column `value` or `score`, and one for each hyperparameter: `gamma`, `param.gamma` or
    `params_gamma`. Where there is a column `state` or `stage`, rows of other states, and of a final
    stage, are left out.

    Args:
        path: Of the file.
        knobs: Names of hyperparameters to look for.

    Raises:
        UsageError: It is no such table.
        SystemRefusedError: It cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as exc:
        raise SystemRefusedError.of(exc) from exc
    except (csv.Error, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} is no CSV file: {exc}") from None
    columns = rows[0].keys() if rows else ()
    value = next((name for name in _VALUES if name in columns), None)
    if value is None:
        raise UsageError(f"{path} has no column `value` or `score`, or no rows")
    found = {
        knob: f"{prefix}{knob}"
        for prefix in reversed(_PREFIXES)
        for knob in knobs
        if f"{prefix}{knob}" in columns
    }
    results = []
    for place, row in enumerate(rows):
        if row.get("state") not in (None, "", "COMPLETE") or row.get("stage") not in (
            None,
            "",
            "search",
        ):
            continue
        score = _number(row[value])
        if score is None:
            raise UsageError(f"{path}: row {place + 1}: {value} is {row[value]!r}, not a number")
        number = row.get("number") or ""
        results.append(
            Known(
                where=path.name,
                number=int(number) if number.isascii() and number.isdigit() else place,
                value=score,
                params={
                    knob: row[column].removeprefix(_QUOTE)
                    for knob, column in found.items()
                    if row[column]
                },
            )
        )
    return results


def from_optuna(storage: str, name: str | None) -> list[Known]:
    """The COMPLETE trials of a study in a database (a URL) or in a journal (a file).

    Args:
        storage: As Optuna's commands take it; a path for a journal.
        name: The study's; None for the only one.

    Raises:
        UsageError: There is no such storage or study, or it has several objectives or minimizes.
    """
    import optuna

    try:
        study = optuna.load_study(study_name=name, storage=_opened(storage))
        trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        directions = study.directions
    except Exception as exc:  # of whatever driver; its text may hold the URL, and a password
        raise UsageError(f"cannot read study {name!r} there: {_reason(exc, storage)}") from None
    if directions != [optuna.study.StudyDirection.MAXIMIZE]:
        raise UsageError(
            f"study {study.study_name!r} does not maximize one value, so its results mean another"
            " thing here; write those that you want to a CSV file with a column `value`"
        )
    return [
        Known(
            where=study.study_name, number=trial.number, value=trial.values[0], params=trial.params
        )
        for trial in trials
        if math.isfinite(trial.values[0])
    ]


def _opened(storage: str) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if "://" in storage:
        return optuna.storages.RDBStorage(storage, skip_compatibility_check=False)
    if not Path(storage).is_file():
        raise FileNotFoundError(f"no such file: {storage}")
    return optuna.storages.JournalStorage(JournalFileBackend(storage))


def _reason(exc: Exception, storage: str) -> str:
    if "://" in storage:
        return type(exc).__name__
    return printable((str(exc).splitlines() or [type(exc).__name__])[0])


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
