"""The studies' own rows: what a worker needs to train, and where each study stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Row, text

from trialfleet import COMPATIBILITY, __version__
from trialfleet.errors import (
    StudyDeletedError,
    StudyMismatchError,
    StudyNotFoundError,
    UsageError,
    VersionMismatchError,
)
from trialfleet.store.leases import Stage
from trialfleet.store.storage import Database
from trialfleet.store.trials import life
from trialfleet.study import formats
from trialfleet.study.differences import differences
from trialfleet.study.spec import FINAL_SUFFIX, Spec

COLUMNS = """
    name, search_id, final_id, stage, spec AS stored, digest, version, compatibility, budget,
    max_failures, artifacts, result, reason, paused_at IS NOT NULL AS paused, stopped, rules,
    imported, finals, priority,
    extract(epoch FROM coalesce(ended_at, now()) - created_at) AS seconds
"""
FIND = text(f"SELECT {COLUMNS} FROM fleet.studies WHERE name = :name")  # noqa: S608
FIND_AGAIN = text(f"SELECT {COLUMNS} FROM fleet.studies WHERE search_id = :search_id")  # noqa: S608
ALL = text(f"SELECT {COLUMNS} FROM fleet.studies ORDER BY created_at, name")  # noqa: S608
OPEN = text(f"""
    SELECT {COLUMNS} FROM fleet.studies WHERE stage IN ('search', 'final')
    ORDER BY created_at, name
""")  # noqa: S608
RECENT = text(f"""
    SELECT {COLUMNS} FROM fleet.studies
    WHERE stage IN ('search', 'final') OR ended_at > now() - interval '1 hour'
    ORDER BY created_at, name
""")  # noqa: S608
SET_PRIORITY = text("UPDATE fleet.studies SET priority = :priority WHERE search_id = :search_id")
LOCKED = text(
    f"SELECT {COLUMNS} FROM fleet.studies WHERE search_id = :search_id FOR UPDATE"  # noqa: S608
)
OURS = text("""
    SELECT 1 FROM fleet.studies WHERE :study_id IN (search_id, final_id)
    UNION ALL SELECT 1 FROM fleet.former_finals WHERE final_id = :study_id
""")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study as it stands now."""

    name: str
    search_id: int  # Optuna's study of the search
    final_id: int | None  # Optuna's study of the final stage, once it has begun
    stage: Stage
    stored: str  # the study file, as the version that created the study wrote it
    digest: str  # of that text as it was then
    version: str  # of the Trialfleet that created it
    compatibility: int  # that version's; those with the same number can go on with it
    budget: int  # trials that count
    max_failures: int
    artifacts: str  # URL of the artifact store that all its workers use
    result: dict[str, Any] | None  # the final stage's outcome
    reason: str | None  # why it failed
    seconds: float  # since it was created, or from then to its end
    paused: bool = False  # nothing is claimed
    stopped: str | None = None  # why its search ends, or has ended, before its budget was spent
    rules: bool = True  # whether the study file's stop rules can stop it
    imported: int = 0  # trials of the budget that were imported
    priority: int = 1  # its weight in a fleet of studies
    finals: int = 0  # former final stages, which extensions have taken the place of

    @cached_property
    def spec(self) -> Spec:
        """The study file.

        Raises:
            VersionMismatchError: This version does not understand it.
        """
        try:
            return Spec.from_json(self.stored)
        except VersionMismatchError as exc:
            raise VersionMismatchError(
                f"study {self.name!r}, created by trialfleet {self.version}, cannot be read by "
                f"{__version__}: {exc}"
            ) from exc

    @property
    def unreadable(self) -> str | None:
        """Why this version does not understand the study file; None if it does."""
        try:
            assert self.spec
        except VersionMismatchError as exc:
            return str(exc)
        return None

    @property
    def final_name(self) -> str:
        """Name of the Optuna study of the final stage."""
        return self.name + FINAL_SUFFIX

    @property
    def asked(self) -> int:
        """Trials that count and that workers have trained, or are to train."""
        return self.budget - self.imported

    @property
    def edition(self) -> str:
        """What tells this final stage's artifacts from those of former ones."""
        return f"-{self.finals}" if self.finals else ""

    @property
    def optuna_ids(self) -> list[int]:
        """Ids of its Optuna studies."""
        return [each for each in (self.search_id, self.final_id) if each is not None]

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


def read_again(database: Database, study: Study) -> Study:
    """The same study as it stands now, whatever is called by its name.

    Raises:
        StudyDeletedError: It is gone.
    """
    with database.transaction() as connection:
        row = connection.execute(FIND_AGAIN, {"search_id": study.search_id}).one_or_none()
    if row is None:
        raise StudyDeletedError(f"study {study.name!r} was deleted")
    return _study(row)


def find_all(database: Database) -> list[Study]:
    """All studies, oldest first, those included that this version cannot read."""
    with database.transaction() as connection:
        return [_study(row) for row in connection.execute(ALL)]


def find_open(database: Database) -> list[Study]:
    """The studies that have not ended, oldest first, those included that cannot be read."""
    with database.transaction() as connection:
        return [_study(row) for row in connection.execute(OPEN)]


def find_recent(database: Database) -> list[Study]:
    """The studies that have not ended, or within the last hour, oldest first."""
    with database.transaction() as connection:
        return [_study(row) for row in connection.execute(RECENT)]


def set_priority(database: Database, study: Study, priority: int) -> None:
    """Change the study's weight in a fleet, from the next claim on."""
    with database.transaction() as connection:
        connection.execute(SET_PRIORITY, {"search_id": study.search_id, "priority": priority})


def find_single(database: Database) -> Study:
    """The one study that has not ended, for a command that was given no name.

    Studies that have ended, or that this version cannot read, count only where there are no others.

    Raises:
        UsageError: There is none, or more than one.
    """
    studies = find_all(database)
    running = [study for study in studies if not study.ended]
    readable = [study for study in running if study.unreadable is None]
    candidates = readable or running or studies
    if len(candidates) != 1:
        names = ", ".join(study.name for study in candidates) or "none"
        raise UsageError(f"name the study: there is not exactly one to choose from ({names})")
    return candidates[0]


def lock(connection: Connection, study: Study) -> Study:
    """The study as it stands, and as it stays until the end of the transaction.

    Who steers a study, begins its final stage or ends it holds this lock; a claim holds the half of
    it that is Optuna's row.

    Raises:
        StudyDeletedError: It is gone.
    """
    row = None
    if life.lock_study(connection, study.search_id):
        row = connection.execute(LOCKED, {"search_id": study.search_id}).one_or_none()
    if row is None:
        raise StudyDeletedError(f"study {study.name!r} was deleted")
    return _study(row)


def has_optuna_study(database: Database, study_id: int) -> bool:
    """Whether Optuna's study `study_id` is the search or the final stage of one of ours."""
    with database.transaction() as connection:
        return connection.scalar(OURS, {"study_id": study_id}) is not None


def refuse_unusable(study: Study) -> None:
    """Return if this version of Trialfleet may go on with the study.

    Raises:
        VersionMismatchError: Its results would not be those of the version that created it, or it
            cannot read the study file.
        StudyMismatchError: The stored study file has changed since the study was created.
    """
    if study.compatibility != COMPATIBILITY:
        raise VersionMismatchError(
            f"study {study.name!r} was created by trialfleet {study.version} (compatibility "
            f"{study.compatibility}), this is {__version__} (compatibility {COMPATIBILITY})"
        )
    digest = formats.digest(study.stored)
    if digest != study.digest:
        # Trained on, it would be another study's trials under this one's name.
        raise StudyMismatchError(
            f"the stored study file of {study.name!r} has the digest {digest[:12]}, but the study "
            f"was created from one with {study.digest[:12]}"
        )
    if study.unreadable is not None:
        raise VersionMismatchError(study.unreadable)


def refuse_other(study: Study, spec: Spec) -> None:
    """Return if `spec`, from a study file, means what the stored study was created from.

    A study that was extended is also joined by a file that asks for as many trials as it has now.

    Raises:
        StudyMismatchError: It does not; the message shows the differing fields.
        VersionMismatchError: This version cannot read the stored study file.
    """
    # Its weight in a fleet is no part of what a study is.
    stored = study.spec.model_copy(update={"priority": spec.priority})
    if spec.search.trials == study.asked:
        search = spec.search.model_copy(update={"trials": stored.search.trials})
        spec = spec.model_copy(update={"search": search})
    fields = differences(stored, spec)
    if not fields:
        return
    wanted, steer = spec.search.trials, ""
    if all(field.startswith("search.trials:") for field in fields):
        command = f"extend {study.name} --trials {wanted}"
        if wanted < study.asked:
            command = f"stop {study.name}"
        steer = f" (`trialfleet {command}` changes that)"
    raise StudyMismatchError(
        f"study {study.name!r} exists with a different study file: {'; '.join(fields)}{steer}"
    )


def _study(row: Row[Any]) -> Study:
    return Study(**{**row._mapping, "seconds": float(row.seconds)})
