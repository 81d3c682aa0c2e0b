"""The part of Optuna's `BaseStorage` that is about studies."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages._base import DEFAULT_STUDY_NAME_PREFIX
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from sqlalchemy import Connection, Row, TextClause
from sqlalchemy.exc import DBAPIError, IntegrityError

from trialfleet.postgres.database import Postgres
from trialfleet.postgres.waiting import unhurried
from trialfleet.store.optuna import statements
from trialfleet.store.optuna.rows import attributes, keys_and_values

_FINISHED = "FL002"  # SQLSTATE of the guard: the trial is finished
_NO_SUCH_ROW = "23503"  # foreign_key_violation
_DELETED_AT_ONCE = 2_000  # trials


class StudyRows(BaseStorage):
    """Studies, their directions and attributes.

    Args:
        postgres: Of this process.
        fence: What is written carries it.
    """

    def __init__(self, postgres: Postgres, fence: int | None = None) -> None:
        self._postgres = postgres
        self._fence = fence

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """See BaseStorage; DuplicatedStudyError if the name is taken."""
        if study_name is None:
            study_name = DEFAULT_STUDY_NAME_PREFIX + str(uuid.uuid4())
        values = {"name": study_name, "directions": [each.name for each in directions]}
        try:
            return int(self._one(statements.CREATE_STUDY, values).study_id)
        except IntegrityError as exc:
            raise DuplicatedStudyError(f"a study is called {study_name!r} already") from exc

    def delete_study(
        self, study_id: int, *, progress: Callable[[int], object] = lambda trials: None
    ) -> None:
        """See BaseStorage. All of it goes, or nothing.

        Args:
            study_id: Optuna's.
            progress: Called with the number of trials that are deleted so far.
        """
        deleted = 0
        values = {"study_id": study_id, "most": _DELETED_AT_ONCE}
        with unhurried(), self._postgres.transaction(self._fence) as connection:
            self._lock_study(connection, study_id)
            while trials := connection.scalar(statements.DELETE_TRIALS, values):
                deleted += trials
                progress(deleted)
            connection.execute(statements.DELETE_STUDY, {"study_id": study_id})

    def get_study_id_from_name(self, study_name: str) -> int:
        """See BaseStorage."""
        return int(self._one(statements.STUDY_ID, {"name": study_name}).study_id)

    def get_study_name_from_id(self, study_id: int) -> str:
        """See BaseStorage."""
        return str(self._one(statements.STUDY_NAME, {"study_id": study_id}).study_name)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """See BaseStorage."""
        names = self._call(statements.DIRECTIONS, {"study_id": study_id})
        if not names:
            raise KeyError(f"there is no study {study_id}")
        return [StudyDirection[row.direction] for row in names]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """See BaseStorage."""
        return self._study_attributes("study_user_attributes", study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """See BaseStorage."""
        return self._study_attributes("study_system_attributes", study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """See BaseStorage."""
        self._set_study_attribute("study_user_attributes", study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """See BaseStorage."""
        self._set_study_attribute("study_system_attributes", study_id, key, value)

    def get_all_studies(self) -> list[FrozenStudy]:
        """See BaseStorage."""
        return [
            FrozenStudy(
                study_name=row.study_name,
                direction=None,
                directions=[StudyDirection[name] for name in row.directions],
                user_attrs=attributes(row.user_attrs),
                system_attrs=attributes(row.system_attrs),
                study_id=row.study_id,
            )
            for row in self._call(statements.ALL_STUDIES)
        ]

    def _study_attributes(self, table: str, study_id: int) -> dict[str, Any]:
        rows = self._call(statements.STUDY_ATTRIBUTES[table], {"study_id": study_id})
        if not rows:
            raise KeyError(f"there is no study {study_id}")
        return attributes((row.key, row.value_json) for row in rows if row.key is not None)

    def _set_study_attribute(self, table: str, study_id: int, key: str, value: Any) -> None:
        (text,) = keys_and_values({key: value})["values"]
        values = {"study_id": study_id, "key": key, "value": text}
        with writing(f"study {study_id}"):
            self._call(statements.SET_STUDY_ATTRIBUTE[table], values)

    def _lock_study(self, connection: Connection, study_id: int) -> None:
        if connection.scalar(statements.LOCK_STUDY, {"study_id": study_id}) is None:
            raise KeyError(f"there is no study {study_id}")

    def _call(
        self, statement: TextClause, values: dict[str, Any] | None = None
    ) -> Sequence[Row[Any]]:
        return self._postgres.call(statement, values, fence=self._fence)

    def _one(self, statement: TextClause, values: dict[str, Any]) -> Row[Any]:
        rows = self._call(statement, values)
        if not rows:
            raise KeyError(f"there is no row of {values}")
        return rows[0]


@contextmanager
def writing(what: str) -> Iterator[None]:
    """The database's refusals as Optuna's exceptions; a lost lease stays the database's own."""
    try:
        yield
    except DBAPIError as exc:
        code = getattr(exc.orig, "pgcode", None)
        if code == _FINISHED:
            raise UpdateFinishedTrialError(f"{what} is finished, and finished is final") from exc
        if code == _NO_SUCH_ROW:
            raise KeyError(f"there is no {what}") from exc
        raise
