"""The studies' own rows: what a worker needs to train, and where each study stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text

from trialfleet.errors import StudyMismatchError, StudyNotFoundError, UsageError
from trialfleet.store.leases import Stage
from trialfleet.store.storage import Database
from trialfleet.study.spec import FINAL_SUFFIX, Spec, differences

COLUMNS = """
    name, search_id, final_id, stage, spec, digest, version, budget, max_failures, artifacts,
    result, reason,
    extract(epoch FROM coalesce(ended_at, now()) - created_at) AS seconds
"""
FIND = text(f"SELECT {COLUMNS} FROM fleet.studies WHERE name = :name")  # noqa: S608
ALL = text(f"SELECT {COLUMNS} FROM fleet.studies ORDER BY created_at, name")  # noqa: S608


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study as it stands now."""

    name: str
    search_id: int  # Optuna's study of the search
    final_id: int | None  # Optuna's study of the final stage, once it has begun
    stage: Stage
    spec: Spec
    digest: str
    version: str  # of the Trialfleet that created it
    budget: int  # trials that count
    max_failures: int
    artifacts: str  # URL of the artifact store that all its workers use
    result: dict[str, Any] | None  # the final stage's outcome
    reason: str | None  # why it failed
    seconds: float  # since it was created, or from then to its end

    @property
    def final_name(self) -> str:
        """Name of the Optuna study of the final stage."""
        return self.name + FINAL_SUFFIX

    @property
    def ended(self) -> bool:
        """Whether no trial of it will ever run again."""
        return self.stage in ("done", "failed")


def find(database: Database, name: str) -> Study:
    """The study called `name`.

    Raises:
        StudyNotFoundError: There is none.
    """
    try:
        with database.transaction() as connection:
            row = connection.execute(FIND, {"name": name}).one_or_none()
    except ValueError:  # NUL or a lone surrogate, which no text in PostgreSQL has
        row = None
    if row is None:
        raise StudyNotFoundError(f"no study is called {name!r}")
    return _study(row)


def every(database: Database) -> list[Study]:
    """All studies, oldest first."""
    with database.transaction() as connection:
        return [_study(row) for row in connection.execute(ALL)]


def only(database: Database) -> Study:
    """The one study that has not ended, for a command that was given no name.

    Raises:
        UsageError: There is none, or more than one.
    """
    studies = every(database)
    candidates = [study for study in studies if not study.ended] or studies
    if len(candidates) != 1:
        names = ", ".join(study.name for study in candidates) or "none"
        raise UsageError(f"name the study: there is not exactly one to choose from ({names})")
    return candidates[0]


def refuse_other(study: Study, spec: Spec) -> None:
    """Return if `spec`, from a study file, is what the stored study was created from.

    Raises:
        StudyMismatchError: It is not; the message shows the differing fields.
    """
    if study.digest != spec.digest:
        fields = "; ".join(differences(study.spec, spec))
        raise StudyMismatchError(
            f"study {study.name!r} exists with a different study file "
            f"(digest {study.digest[:12]} there, {spec.digest[:12]} here): {fields}"
        )


def _study(row: Row[Any]) -> Study:
    fields = {**row._mapping, "spec": Spec.from_json(row.spec), "seconds": float(row.seconds)}
    return Study(**fields)
