"""One coordinator for every open study, those included that are submitted while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from coordinator.monitoring.notices import Notices
from coordinator.watch import Keeper
from trialfleet.errors import DatabaseUnavailableError, FleetError, StudyNotFoundError
from trialfleet.postgres.outages import is_locked, is_outage
from trialfleet.postgres.retry import first_line, patiently
from trialfleet.settings import Settings
from trialfleet.store import studies, workers
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

log = structlog.get_logger()

# Seconds until a study is looked at again that met an error nobody has foreseen, or that somebody
# has locked: a look waits for a lock, and the others' come after it. They double.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_FORGET_EVERY = 3_600.0  # seconds


@dataclass(frozen=True, kw_only=True)
class _Complaint:
    """What was said of a study that cannot be kept going."""

    reason: str
    pause: float = 0.0  # seconds
    until: float = 0.0  # on our clock; it is left alone before


class Fleet:
    """Keeps every open study going.

    What one study has wrong with it (an artifact store that fails, a version that cannot read it,
    a lock that somebody holds, an error that nobody has foreseen) is a warning, and no other
    study's trouble.

    Args:
        database: Of this process.
        settings: Poll, patience, and the lease of whoever leads.
        pause: Called with the seconds to wait; may raise to end it.
        make_notices: Makes what is told how one study goes; None for nothing.
        ended: Called with each study that has ended, or failed, while this was there.
    """

    def __init__(
        self,
        database: Database,
        *,
        settings: Settings,
        pause: Callable[[float], object],
        make_notices: Callable[[], Notices] | None = None,
        ended: Callable[[Study], object] = lambda study: None,
    ) -> None:
        self._database, self._settings, self._pause = database, settings, pause
        self._make_notices, self._ended = make_notices, ended
        self._keepers: dict[int, Keeper] = {}  # by Optuna's id of the search
        self._complaints: dict[int, _Complaint] = {}
        self._forget_next = 0.0  # on our clock

    def run(self) -> NoReturn:
        """Go on until `pause` raises.

        Raises:
            DatabaseUnavailableError: The database stayed away.
        """
        patience = self._settings.outage_patience
        try:
            while True:
                patiently(self.look, patience=patience, pause=self._pause)
                self._pause(self._settings.poll_seconds)
        finally:
            for keeper in self._keepers.values():
                keeper.resign()

    def look(self) -> None:
        """One look at each study, and whatever is due."""
        self._forget_workers()
        found = studies.find_open(self._database)
        known = {*self._keepers, *(study.search_id for study in found)}
        self._complaints = {key: self._complaints[key] for key in self._complaints if key in known}
        for study in found:
            if study.search_id not in self._keepers:
                self._begin(study)
        for search_id, keeper in list(self._keepers.items()):
            if self._left_alone(search_id):
                continue
            try:
                study = keeper.look()
            except StudyNotFoundError:
                log.info("study deleted", study=keeper.name)
                self._forget(search_id)
            except Exception as exc:
                self._complain(search_id, keeper.name, exc)
            else:
                self._complaints.pop(search_id, None)
                if study.ended and study.search_id == search_id:
                    self._tell(study)
                if study.ended or study.search_id != search_id:
                    keeper.resign()
                    self._forget(search_id)

    def _begin(self, study: Study) -> None:
        if self._left_alone(study.search_id):
            return
        try:
            studies.refuse_unusable(study)
        except Exception as exc:
            self._complain(study.search_id, study.name, exc)
            return
        notices = self._make_notices() if self._make_notices is not None else None
        self._keepers[study.search_id] = Keeper(
            self._database, study.name, settings=self._settings, notices=notices
        )

    def _tell(self, study: Study) -> None:
        """Tell of its end once, whatever becomes of that."""
        try:
            self._ended(study)
        except FleetError as exc:
            log.warning("study ended", study=study.name, trouble=f"{exc}")
        except Exception as exc:
            log.warning("study ended", study=study.name, trouble=_unforeseen(exc), exc_info=exc)

    def _forget_workers(self) -> None:
        """Forget those that are gone and belong to no study; they hurry nobody."""
        if time.monotonic() >= self._forget_next:
            workers.forget_gone(self._database)
            self._forget_next = time.monotonic() + _FORGET_EVERY

    def _left_alone(self, search_id: int) -> bool:
        complaint = self._complaints.get(search_id)
        return complaint is not None and time.monotonic() < complaint.until

    def _forget(self, search_id: int) -> None:
        self._keepers.pop(search_id).forget()
        self._complaints.pop(search_id, None)

    def _complain(self, search_id: int, name: str, error: Exception) -> None:
        """Say once what is wrong with a study; raise what is wrong with the database."""
        locked = is_locked(error)
        if not locked and (isinstance(error, DatabaseUnavailableError) or is_outage(error)):
            raise error
        before = self._complaints.get(search_id)
        if isinstance(error, FleetError):
            complaint = _Complaint(reason=f"{error}. {error.remedy}")
        else:
            pause = min(2 * before.pause if before else 0.0, _LONGEST_PAUSE) or _FIRST_PAUSE
            complaint = _Complaint(
                reason=f"somebody has it locked: {first_line(error)}"
                if locked
                else _unforeseen(error),
                pause=pause,
                until=time.monotonic() + pause,
            )
        self._complaints[search_id] = complaint
        if before is None or before.reason != complaint.reason:
            log.warning(
                "cannot keep a study going",
                study=name,
                reason=complaint.reason,
                exc_info=error if complaint.pause and not locked else None,
            )


def _unforeseen(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
