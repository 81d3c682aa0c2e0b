"""Results from elsewhere as trials of a search: what its sampler knows from the start.

Each is a COMPLETE trial that no worker has trained. It is marked by its user attribute `imported`,
raises the study's budget by one, so that it takes no trial of the workers' away, and is never the
best, a finalist, or an improvement: nobody knows what it was measured on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from trialfleet.checking.mistakes import FieldError
from trialfleet.search import space
from trialfleet.search.marks import IMPORTED
from trialfleet.search.parameters import encode
from trialfleet.store.steering import configurations
from trialfleet.store.steering.adding import searching
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.optuna_rows import insert_trials
from trialfleet.study.constraints import Constraint, without_bound
from trialfleet.study.spec import Spec

ADD = text("""
    UPDATE fleet.studies SET budget = budget + :trials, imported = imported + :trials
    WHERE search_id = :search_id
""")


@dataclass(frozen=True, kw_only=True)
class Known:
    """A result from elsewhere."""

    where: str  # the file, or the study
    number: int  # of the trial there, or of the row
    values: Sequence[float]  # of each of our study's objectives
    params: Mapping[str, Any]  # values, or text that a table has for them
    # what measures came to, by names as `Constraint.bounded` has them, or the measures' own
    measured: Mapping[str, float] = field(default_factory=dict)
    # Optuna's constraints, met at zero or less: by their names, or by "0", "1", … in their order
    excess: Mapping[str, float] = field(default_factory=dict)

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
    with database.transaction() as connection:
        searching(connection, study)
        there = {
            _key(json.loads(each))
            for each in reading.attributes(connection, study.search_id, IMPORTED)
        }
        system: dict[str, Any] = {}
        if key := study.spec.search.sampler.generation_key():
            # As if they were of the youngest generation: the next one is bred from them, too.
            system[key] = reading.greatest(connection, study.search_id, key) or 0
        for result in results:
            if _key(result.origin) in there:
                outcome.known += 1
                continue
            try:
                templates.append(_template(result, study.spec, system))
            except FieldError as problem:
                outcome.refused.append(f"{result.number}: {problem.at}: {problem.text}")
                continue
            there.add(_key(result.origin))
        insert_trials(connection, database, study.search_id, templates)
        outcome.trials = len(templates)
        connection.execute(ADD, {"search_id": study.search_id, "trials": outcome.trials})
    return outcome


def measured_by(constraints: Mapping[Any, Any]) -> dict[str, float]:
    """What measures came to in a trial of ours, by its attribute `constraints`."""
    return {without_bound(label): value for label, value in numbers_in(constraints).items()}


def numbers_in(found: Mapping[Any, Any]) -> dict[str, float]:
    """What of it is a finite number with a name."""
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(name, str)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }


def _key(origin: Mapping[str, Any]) -> tuple[str, int]:
    return str(origin["from"]), int(origin["number"])


def _template(result: Known, spec: Spec, system: Mapping[str, Any]) -> FrozenTrial:
    """The trial that a result becomes.

    Raises:
        FieldError: It is none of this study.
    """
    params = encode(configurations.read(result.params, spec.agent), spec.agent)
    distributions = space.distributions(spec.agent)
    attributes: dict[str, Any] = {IMPORTED: result.origin}
    system = dict(system)
    if spec.constraints:
        attributes["constraints"], system["constraints"] = _bounded(result, spec)
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        values=[*result.values],
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs=attributes,
        system_attrs=system,
    )


def _bounded(result: Known, spec: Spec) -> tuple[dict[str, float | None], list[float]]:
    """What each constraint came to, as a worker would have stored it.

    Where only Optuna's number is known, that is what samplers learn from, and the measure is None.

    Raises:
        FieldError: A constraint of which nothing is known. Optuna takes it for one that is met.
    """
    found: dict[str, float | None] = {}
    excess = []
    for place, constraint in enumerate(spec.constraints):
        value = _measured(constraint, result, spec)
        found[constraint.label] = value
        excess.append(
            _given(constraint, place, result, len(spec.constraints))
            if value is None
            else constraint.excess(value)
        )
    return found, excess


def _measured(constraint: Constraint, result: Known, spec: Spec) -> float | None:
    names = (constraint.bounded, constraint.measure.name)
    for name in names:
        if name in result.measured:
            return result.measured[name]
    search = spec.search
    for objective, value in zip(search.objectives, result.values, strict=True):
        same = constraint.over_seeds in (None, search.over_seeds)
        if objective.measure == constraint.measure and same:
            return value
    return None


def _given(constraint: Constraint, place: int, result: Known, count: int) -> float:
    names = [constraint.label, constraint.bounded, constraint.measure.name]
    if set(result.excess) == {str(each) for each in range(count)}:
        names.append(str(place))
    for name in names:
        if name in result.excess:
            return result.excess[name]
    raise FieldError(
        "is missing; must be given, as the study bounds it", at=f"constraint.{constraint.bounded}"
    )
