"""Reading results from elsewhere: a study in any storage of Optuna's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialfleet.errors import UsageError
from trialfleet.escape import printable
from trialfleet.store.steering.importing import Known, measured_by, numbers_in
from trialfleet.study.spec import Spec

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def from_optuna(storage: str, name: str | None, spec: Spec) -> list[Known]:
    """The COMPLETE trials of a study in a database (a URL) or in a journal (a file).

    Args:
        storage: As Optuna's commands take it; a path for a journal.
        name: The study's; None for the only one.
        spec: What our study asks for.

    Raises:
        UsageError: There is no such storage or study, or it has other directions.
    """
    import optuna

    try:
        study = optuna.load_study(study_name=name, storage=_opened(storage))
        trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        directions = study.directions
    except Exception as exc:  # of whatever driver; its text may hold the URL, and a password
        raise UsageError(f"cannot read study {name!r} there: {_reason(exc, storage)}") from None
    there = ["max" if each.name == "MAXIMIZE" else "min" for each in directions]
    here = ["max" if each.maximize else "min" for each in spec.search.objectives]
    if there != here:
        raise UsageError(
            f"the directions of study {study.study_name!r} there are {', '.join(there)}, and those"
            f" of {spec.name!r} are {', '.join(map(str, spec.search.objectives))}; write the"
            " results that you want to a CSV file with a column for each objective"
        )
    return [
        _known(study.study_name, trial)
        for trial in trials
        if all(math.isfinite(value) for value in trial.values)
    ]


def _known(study: str, trial: FrozenTrial) -> Known:
    ours = trial.user_attrs.get("constraints")
    measured = numbers_in(trial.user_attrs)
    if isinstance(ours, dict):
        measured |= measured_by(ours)
    return Known(
        where=study,
        number=trial.number,
        values=trial.values,
        params=trial.params,
        measured=measured,
        # Ours are by how much of a bound they exceed it, and that may be another bound here.
        excess={} if isinstance(ours, dict) else numbers_in(trial.constraints),
    )


def _opened(storage: str) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if "://" in storage:
        return optuna.storages.RDBStorage(storage, skip_table_creation=True)
    if not Path(storage).is_file():
        raise FileNotFoundError(f"no such file: {storage}")
    return optuna.storages.JournalStorage(JournalFileBackend(storage))


def _reason(exc: Exception, storage: str) -> str:
    if "://" in storage:
        return type(exc).__name__
    return printable((str(exc).splitlines() or [type(exc).__name__])[0])
