"""Results from elsewhere as trials of a search: what its sampler knows from the start.

Each is a COMPLETE trial that no worker has trained. It is marked by its user attribute `imported`,
raises the study's budget by one, so that it takes no trial of the workers' away, and is never the
best, a finalist, or an improvement: nobody knows what it was measured on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from trialfleet.checking.mistakes import FieldError
from trialfleet.errors import SteeringError
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
# Trials that are added in one transaction, which holds the study's lock: some 0.1 s of it, in which
# nobody claims a trial of the study.
_BATCH = 50


@dataclass(frozen=True, kw_only=True)
class Result:
    """A result from elsewhere."""

    where: str  # the file, or the study
    number: int | None = None  # of the trial there
    line: int | None = None  # of the file, where it has no number
    values: Sequence[float]  # of each of our study's objectives
    params: Mapping[str, Any]  # values, or text that a table has for them
    # what measures came to, by names as `Constraint.bounded` has them, or the measures' own
    measured: Mapping[str, float] = field(default_factory=dict)
    # Optuna's constraints, met at zero or less: by their names, or by "0", "1", … in their order
    excess: Mapping[str, float] = field(default_factory=dict)
    ran: Sequence[datetime] = ()  # when it began and ended, if that is known

    @property
    def place(self) -> str:
        """Where in its file or study it is, for people."""
        return f"line {self.line}" if self.number is None else f"trial {self.number}"

    @property
    def origin(self) -> dict[str, Any]:
        """Where it comes from, as the trial's attribute tells it."""
        place = {"line": self.line} if self.number is None else {"number": self.number}
        return {"from": self.where, **place}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an import is to add."""

    trials: Sequence[FrozenTrial]  # each with its identity in the attribute `imported`
    again: int = 0  # results that are there twice
    refused: Sequence[str] = ()  # why each of the others is left out


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of an import."""

    added: int
    there: int  # had been imported before


def plan(results: Iterable[Result], spec: Spec, names: configurations.Names | None = None) -> Plan:
    """The trials of a study that these results become.

    Args:
        results: In the order in which the study is to have them.
        spec: The study's.
        names: What is called otherwise there.
    """
    trials: dict[str, FrozenTrial] = {}
    alike: Counter[str] = Counter()
    again, refused = 0, []
    for result in results:
        try:
            trial = _trial(result, spec, names or configurations.Names())
        except FieldError as problem:
            refused.append(f"{result.place}: {problem.at}: {problem.text}")
            continue
        identity = _identity(result, trial)
        if result.number is None:
            # Lines may move: of equal ones it counts how many there are.
            alike[identity] += 1
            identity = _digest([identity, alike[identity]])
        if identity in trials:
            again += 1
            continue
        trial.user_attrs[IMPORTED]["id"] = identity
        trials[identity] = trial
    return Plan(trials=[*trials.values()], again=again, refused=refused)


def import_results(database: Database, study: Study, planned: Plan) -> Outcome:
    """Add the planned trials to the study's search, without those that are there already.

    A batch is a transaction of its own, so that nobody waits long for the study. An import that is
    interrupted leaves whole batches with their share of the budget, and the same import again adds
    the others.

    Raises:
        SteeringError: The search is over, or is being stopped.
        StudyDeletedError: It is gone.
    """
    waiting, added = planned.trials, 0
    imported = -1  # trials of the study that were when we last looked
    system: dict[str, Any] = {}
    while waiting or imported < 0:
        try:
            with database.transaction() as connection:
                found = searching(connection, study)
                if imported < 0 and (key := study.spec.search.sampler.generation_key()):
                    # As if they were of the youngest generation: the next is bred from them, too.
                    system[key] = reading.greatest(connection, study.search_id, key) or 0
                if found.imported != imported:
                    # The first look, or somebody else imports at the same time.
                    there = {
                        json.loads(each).get("id")
                        for each in reading.attributes(connection, study.search_id, IMPORTED)
                    }
                    waiting = [each for each in waiting if _id(each) not in there]
                batch, waiting = waiting[:_BATCH], waiting[_BATCH:]
                for trial in batch:
                    trial.system_attrs.update(system)
                insert_trials(connection, study.search_id, batch)
                values = {"search_id": study.search_id, "trials": len(batch)}
                connection.execute(ADD, values)
        except SteeringError as exc:
            raise SteeringError(
                f"{exc}; {added} results were imported before" if added else f"{exc}"
            ) from exc
        added += len(batch)
        imported = found.imported + len(batch)
    return Outcome(added=added, there=len(planned.trials) - added + planned.again)


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


def _id(trial: FrozenTrial) -> str:
    return str(trial.user_attrs[IMPORTED]["id"])


def _identity(result: Result, trial: FrozenTrial) -> str:
    """What tells a result from every other, in whatever file or storage it is found.

    Its number, what was tried, what came out, and when it ran. Where nobody says when, the file's
    name stands for it: other files have trials of the same numbers, and in a small search space
    with the same values.
    """
    # Optuna writes local times. These parts of one are the same in every time zone.
    ran = [(each.minute % 15, each.second, each.microsecond) for each in result.ran]
    constraints = trial.system_attrs.get("constraints")
    return _digest([result.number, ran or result.where, trial.params, trial.values, constraints])


def _digest(found: object) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:32]


def _trial(result: Result, spec: Spec, names: configurations.Names) -> FrozenTrial:
    """The trial that a result becomes.

    Raises:
        FieldError: It is none of this study.
    """
    params = encode(configurations.read(names.ours(result.params), spec.agent), spec.agent)
    distributions = space.distributions(spec.agent)
    attributes: dict[str, Any] = {IMPORTED: result.origin}
    system: dict[str, Any] = {}
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


def _bounded(result: Result, spec: Spec) -> tuple[dict[str, float | None], list[float]]:
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


def _measured(constraint: Constraint, result: Result, spec: Spec) -> float | None:
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


def _given(constraint: Constraint, place: int, result: Result, count: int) -> float:
    names = [constraint.label, constraint.bounded, constraint.measure.name]
    if set(result.excess) == {str(each) for each in range(count)}:
        names.append(str(place))
    for name in names:
        if name in result.excess:
            return result.excess[name]
    raise FieldError(
        "is missing; must be given, as the study bounds it", at=f"constraint.{constraint.bounded}"
    )
