"""Which study a worker takes its next trial from: always the same one, or any of a fleet's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import structlog

from trialfleet.artifacts.stores import open_store
from trialfleet.errors import DatabaseUnavailableError, FleetError, StudyDeletedError
from trialfleet.store import leases, studies
from trialfleet.store.leases import Claim
from trialfleet.store.optuna.history import Curves
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

log = structlog.get_logger()

# Studies that a worker of a fleet remembers the history of; the one it served first goes first.
_REMEMBERED = 8
# Seconds until a study that this worker could not work for is tried again.
_SKIP = 60.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """A study as one worker works for it."""

    study: Study
    store: ArtifactStore
    history: Curves  # of its search, for its pruner


def serve(database: Database, name: str) -> Served:
    """The study, ready to be worked for.

    Raises:
        StudyNotFoundError: There is no such study.
        VersionMismatchError: This version cannot go on with it.
        StudyMismatchError: Its stored study file has changed.
        UsageError: Its artifact store cannot be opened here.
    """
    study = studies.find(database, name)
    studies.refuse_unusable(study)
    store = open_store(study.artifacts, database)
    return Served(study=study, store=store, history=Curves(database, study.search_id))


class Source(Protocol):
    """Where a worker's trials come from. Each call may be repeated after a lost reply."""

    @property
    def name(self) -> str:
        """The study, or nothing for all of them."""

    def claim(self, worker: str, claim_id: UUID, lease_seconds: float) -> Claim | None:
        """A trial to run, or None where there is none now."""

    def served(self, claim: Claim) -> Served | None:
        """The study of the claim; None if this worker cannot work for it, and said so."""

    def ended(self) -> Study | None:
        """How it ended, if nothing will ever come of this source again."""

    def outlives(self, served: Served, error: FleetError) -> bool:
        """Whether the worker goes on although it could not work for a study."""


class OneStudy:
    """All trials of one study.

    Args:
        database: Of this process.
        name: An existing study.

    Raises:
        FleetError: As `serve`.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database, self.name = database, name
        self._served = serve(database, name)

    def claim(self, worker: str, claim_id: UUID, lease_seconds: float) -> Claim | None:
        """See Source."""
        return leases.claim(
            self._database,
            self.name,
            worker=worker,
            claim_id=claim_id,
            lease_seconds=lease_seconds,
        )

    def served(self, claim: Claim) -> Served | None:
        """See Source."""
        return self._served

    def ended(self) -> Study | None:
        """See Source."""
        study = studies.find(self._database, self.name)
        return study if study.ended else None

    def outlives(self, served: Served, error: FleetError) -> bool:
        """Never: the study's trouble is the worker's."""
        return False


class EveryStudy:
    """Trials of every open study, by priority and fair share (`leases.claim_any`).

    Args:
        database: Of this process.
    """

    name = ""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._served: dict[str, Served] = {}  # by name; the last one is the one in use
        self._skipped: dict[str, float] = {}  # until when, on our clock

    def claim(self, worker: str, claim_id: UUID, lease_seconds: float) -> Claim | None:
        """See Source."""
        now = time.monotonic()
        self._skipped = {name: until for name, until in self._skipped.items() if until > now}
        return leases.claim_any(
            self._database,
            worker=worker,
            claim_id=claim_id,
            lease_seconds=lease_seconds,
            skipped=[*self._skipped],
        )

    def served(self, claim: Claim) -> Served | None:
        """See Source."""
        known = self._served.pop(claim.study, None)
        if known is None or known.study.search_id != claim.search_id:
            # A study that was deleted may have been made anew under its name.
            try:
                known = serve(self._database, claim.study)
            except FleetError as exc:
                if not self._goes_on(claim.study, exc):
                    raise
                return None
        self._served[claim.study] = known
        while len(self._served) > _REMEMBERED:
            oldest = self._served.pop(next(iter(self._served)))
            self._database.optuna_storage().forget(oldest.study.optuna_ids)
        return known

    def ended(self) -> Study | None:
        """Never: more may be submitted."""
        return None

    def outlives(self, served: Served, error: FleetError) -> bool:
        """Whether it is that study's trouble alone."""
        self._served.pop(served.study.name, None)
        return self._goes_on(served.study.name, error)

    def _goes_on(self, name: str, error: FleetError) -> bool:
        if isinstance(error, DatabaseUnavailableError):
            return False
        if isinstance(error, StudyDeletedError):
            log.info("study deleted", study=name)
        else:
            log.warning("cannot work for a study", study=name, reason=f"{error}. {error.remedy}")
            self._skipped[name] = time.monotonic() + _SKIP
        return True
