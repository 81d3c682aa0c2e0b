"""Optuna's `BaseStorage` on Optuna's own PostgreSQL tables, without its ORM.

optuna-dashboard and stock Optuna read and write the same studies beside it. What it promises beyond
`BaseStorage`'s contract:

- a call is one transaction under the storage's fence, nearly all of them one round trip; whoever
  has lost a trial's lease can write nothing to it;
- a write is acknowledged once it is committed, and may be repeated after a lost reply, except
  `create_new_study` and `create_new_trial`;
- a finished trial is read once in a process's life.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, Connection, TextClause

from trialfleet.postgres.database import Postgres
from trialfleet.store.optuna import rows, statements, templates
from trialfleet.store.optuna.history import Trials
from trialfleet.store.optuna.rows import distribution_text, frozen, keys_and_values
from trialfleet.store.optuna.studies import StudyRows, writing


@dataclass
class _Opening:
    """What `Storage.opening` collects."""

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    trials: dict[int, list[FrozenTrial]] = field(default_factory=dict)


class Storage(StudyRows):
    """A storage under one fence; those of several leases share what they have read.

    Args:
        postgres: Of this process.
        fence: What is written carries it.
    """

    def __init__(self, postgres: Postgres, fence: int | None = None) -> None:
        super().__init__(postgres, fence)
        self._histories: dict[int, Trials] = {}
        self._opening: _Opening | None = None

    def under(self, fence: int | None) -> Storage:
        """This storage under another fence; the two share what either has read."""
        twin = Storage(self._postgres, fence)
        twin._histories = self._histories
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """How it travels to another process: without its connections and its history."""
        return _reopened, (self._postgres.url, self._postgres.application, self._fence)

    @contextmanager
    def opening(self, trial_id: int) -> Iterator[None]:
        """Inside, trials are read once, and what is suggested to the trial is stored at the end.

        All its parameters are then there, or none. Nobody reads them from the database before: the
        live trial knows what it was suggested.
        """
        self._opening = opening = _Opening()
        try:
            yield
        finally:
            self._opening = None
        if opening.params:
            self.set_trial_params(trial_id, opening.params)

    def forget(self, study_ids: Sequence[int]) -> None:
        """Free the memory of what was read of these studies."""
        for study_id in study_ids:
            self._histories.pop(study_id, None)

    def delete_study(
        self, study_id: int, *, progress: Callable[[int], object] = lambda trials: None
    ) -> None:
        """See BaseStorage and StudyRows."""
        super().delete_study(study_id, progress=progress)
        self._histories.pop(study_id, None)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """See BaseStorage."""
        with self._postgres.transaction(self._fence) as connection:
            self._lock_study(connection, study_id)
            if template_trial is not None:
                return templates.insert(connection, study_id, [template_trial])[0]
            found = connection.execute(statements.CREATE_TRIAL, {"study_id": study_id})
            return int(found.scalar_one())

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """See BaseStorage. While a trial is being opened, it is stored with the others, after."""
        if self._opening is not None:
            self._opening.params[param_name] = (param_value_internal, distribution)
            return
        with self._updating(trial_id) as connection:
            values = {"trial_id": trial_id, "name": param_name}
            known = connection.scalar(statements.KNOWN_DISTRIBUTION, values)
            if known is not None:
                check_distribution_compatibility(rows.distribution(known), distribution)
            params = {param_name: (param_value_internal, distribution)}
            connection.execute(statements.SET_PARAMS, _params(trial_id, params))

    def set_trial_params(
        self, trial_id: int, params: Mapping[str, tuple[float, BaseDistribution]]
    ) -> None:
        """Store several parameters (internal value and distribution), all of them or none."""
        self._write(statements.SET_PARAMS, _params(trial_id, params))

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """See BaseStorage."""
        with self._updating(trial_id) as connection:
            before = connection.scalar(statements.TRIAL_STATE, {"trial_id": trial_id})
            if values is not None:
                connection.execute(
                    statements.SET_VALUES,
                    {"trial_id": trial_id, "values": [float(value) for value in values]},
                )
            if state == TrialState.RUNNING and before != "WAITING":
                return False
            connection.execute(statements.SET_STATE, {"trial_id": trial_id, "state": state.name})
        return True

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """See BaseStorage."""
        values = _reports(trial_id, {step: intermediate_value})
        self._write(statements.SET_INTERMEDIATE_VALUES, values)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """See BaseStorage."""
        self._set_trial_attribute("trial_user_attributes", trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """See BaseStorage."""
        self._set_trial_attribute("trial_system_attributes", trial_id, key, value)

    def _set_trial_attribute(self, table: str, trial_id: int, key: str, value: Any) -> None:
        values = {"trial_id": trial_id, **keys_and_values({key: value})}
        self._write(statements.SET_TRIAL_ATTRIBUTES[table], values)

    def _write(self, statement: TextClause, values: dict[str, Any]) -> None:
        """Write to a trial that has not finished."""
        with writing(f"trial {values['trial_id']}"):
            if not self._call(statement, values):
                state = self._one(statements.TRIAL_STATE, {"trial_id": values["trial_id"]}).state
                self.check_trial_is_updatable(values["trial_id"], TrialState[state])

    @contextmanager
    def _updating(self, trial_id: int) -> Iterator[Connection]:
        """A transaction that holds the trial, which may still be written to."""
        transaction = self._postgres.transaction(self._fence)
        with writing(f"trial {trial_id}"), transaction as connection:
            state = connection.scalar(statements.LOCK_TRIAL, {"trial_id": trial_id})
            if state is None:
                raise KeyError(f"there is no trial {trial_id}")
            self.check_trial_is_updatable(trial_id, TrialState[state])
            yield connection

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """See BaseStorage."""
        return frozen(self._one(statements.GET_TRIAL, {"trial_id": trial_id}))

    def get_trial_param(self, trial_id: int, param_name: str) -> float:
        """See BaseStorage."""
        values = {"trial_id": trial_id, "name": param_name}
        return float(self._one(statements.GET_PARAM, values).param_value)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """See BaseStorage."""
        values = {"study_id": study_id, "number": trial_number}
        return int(self._one(statements.TRIAL_ID, values).trial_id)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """See BaseStorage. Without `deepcopy`, finished trials are those of earlier calls."""
        found = self._opening.trials.get(study_id) if self._opening is not None else None
        if found is None:
            found = self._read_trials(study_id)
        if self._opening is not None:
            self._opening.trials[study_id] = found
        trials = [trial for trial in found if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def finished_in_order(self, study_id: int) -> list[FrozenTrial]:
        """The finished trials as their ends were committed, to be read only.

        What comes first in one answer comes first in all later ones.
        """
        return [*self._history(study_id).update(self._postgres).values()]

    def _history(self, study_id: int) -> Trials:
        history = self._histories.get(study_id)
        if history is None:
            self._one(statements.STUDY_NAME, {"study_id": study_id})
            history = self._histories.setdefault(study_id, Trials(study_id))
        return history

    def _read_trials(self, study_id: int) -> list[FrozenTrial]:
        history = self._history(study_id)
        # Unfinished ones first: one that ends between the two looks is found by the second.
        unfinished = self._call(statements.UNFINISHED, {"study_id": study_id})
        found = {row.trial_id: frozen(row) for row in unfinished} | history.update(self._postgres)
        return [trial for _, trial in sorted(found.items())]

    def get_n_trials(
        self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None
    ) -> int:
        """See BaseStorage."""
        wanted = (state,) if isinstance(state, TrialState) else state or tuple(TrialState)
        values = {"study_id": study_id, "states": [each.name for each in wanted]}
        return int(self._one(statements.COUNT, values).trials)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """See BaseStorage."""
        directions = self.get_study_directions(study_id)
        if len(directions) > 1:
            raise RuntimeError("Best trial can be obtained only for single-objective optimization.")
        sign = 1 if directions[0] == StudyDirection.MAXIMIZE else -1
        best = self._call(statements.BEST, {"study_id": study_id, "sign": sign})
        if not best:
            raise ValueError("no trial is COMPLETE yet")
        return self.get_trial(best[0].trial_id)


def _reopened(url: URL, application: str, fence: int | None) -> Storage:
    return Storage(Postgres(url, application=application), fence)


def _params(trial_id: int, params: Mapping[str, tuple[float, BaseDistribution]]) -> dict[str, Any]:
    """Parameters as the statement takes them."""
    return {
        "trial_id": trial_id,
        "names": [*params],
        "values": [float(value) for value, _ in params.values()],
        "distributions": [distribution_text(each) for _, each in params.values()],
    }


def _reports(trial_id: int, values: Mapping[int, float]) -> dict[str, Any]:
    """Intermediate values as the statement takes them."""
    return {
        "trial_id": trial_id,
        "steps": [*values],
        "values": [float(value) for value in values.values()],
    }
