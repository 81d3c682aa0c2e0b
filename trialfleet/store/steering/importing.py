"""Results from elsewhere as trials of a search: what its sampler knows from the start.

Each is a COMPLETE trial that no worker has trained. It is marked by its user attribute `imported`,
raises the study's budget by one, so that it takes no trial of the workers' away, and is never the
best, a finalist, or an improvement: nobody knows what it was measured on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState
from sqlalchemy import text

from trialfleet.checking.mistakes import FieldError
from trialfleet.search import fixed, space
from trialfleet.search.knobs import Choices, IntRange, Knob, Searched, SearchSpace
from trialfleet.store.steering.adding import searching
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.optuna_rows import insert_trials
from trialfleet.study.changes import toml_value

IMPORTED = "imported"  # user attribute: {"from": …, "number": …}

ADD = text("""
    UPDATE fleet.studies SET budget = budget + :trials, imported = imported + :trials
    WHERE search_id = :search_id
""")


@dataclass(frozen=True, kw_only=True)
class Known:
    """A result from elsewhere."""

    where: str  # the file, or the study
    number: int  # of the trial there, or of the row
    value: float
    params: Mapping[str, Any]  # values, or text that a table has for them

    @property
    def origin(self) -> dict[str, Any]:
        """What tells it from every other."""
        return {"from": self.where, "number": self.number}


@dataclass(kw_only=True)
class Imported:
    """What became of an import."""

    trials: int = 0  # added
    known: int = 0  # had been imported before
    refused: list[str] = field(default_factory=list)  # why each of the others was left out


def import_results(database: Database, study: Study, results: Iterable[Known]) -> Imported:
    """Add the results that the study's own search could have had; all of them, or none.

    What has been imported before is not imported again.

    Raises:
        SteeringError: The search is over, or is being stopped.
        StudyDeletedError: It is gone.
    """
    outcome, templates = Imported(), []
    knobs = study.spec.agent
    distributions = space.distributions(knobs)
    with database.transaction() as connection:
        searching(connection, study)
        there = {
            _key(json.loads(each))
            for each in reading.attributes(connection, study.search_id, IMPORTED)
        }
        for result in results:
            if _key(result.origin) in there:
                outcome.known += 1
                continue
            try:
                values = _values(result.params, knobs)
            except FieldError as problem:
                outcome.refused.append(f"{result.number}: {problem.at}: {problem.text}")
                continue
            there.add(_key(result.origin))
            params = space.existing(space.encode(values, knobs), knobs)
            templates.append(
                optuna.trial.create_trial(
                    state=TrialState.COMPLETE,
                    value=result.value,
                    params=params,
                    distributions={name: distributions[name] for name in params},
                    user_attrs={IMPORTED: result.origin},
                )
            )
        insert_trials(connection, database, study.search_id, templates)
        outcome.trials = len(templates)
        connection.execute(ADD, {"search_id": study.search_id, "trials": outcome.trials})
    return outcome


def _key(origin: Mapping[str, Any]) -> tuple[str, int]:
    return str(origin["from"]), int(origin["number"])


def _values(params: Mapping[str, Any], knobs: SearchSpace) -> dict[str, Any]:
    """Every searched knob's value; the fixed ones are as the study has them, where they are told.

    Raises:
        FieldError: A result of another space.
    """
    told = {name: _read(params[name], knobs[name]) for name in params if name in knobs}
    for name, value in told.items():
        knob = knobs[name]
        if not isinstance(knob, Searched) and value != knob:
            raise FieldError(f"{value!r}; must be {knob!r}, as the study fixes it", at=name)
    for name in knobs.searched():
        if name not in told:
            raise FieldError("is missing; must be given, as the study searches it", at=name)
    return fixed.checked({name: told[name] for name in knobs.searched()}, knobs)


def _read(value: Any, knob: Knob) -> Any:
    """A value as the study file would have it: tables and Optuna keep some as text."""
    text_expected = isinstance(knob, str) or (
        isinstance(knob, Choices) and all(isinstance(each, str) for each in knob.choices)
    )
    if isinstance(value, str) and not text_expected:
        lower = value.strip().lower()
        try:
            value = toml_value(lower if lower in ("true", "false") else value)
        except FieldError:
            return value
    whole = isinstance(knob, IntRange) or type(knob) is int
    if isinstance(value, float) and value.is_integer() and whole:
        return int(value)  # pandas writes whole numbers so where others are missing
    return tuple(value) if isinstance(value, list) else value
