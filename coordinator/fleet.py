"""One coordinator for every open study, those included that are submitted while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import structlog

from coordinator.monitoring.notices import Notices
from coordinator.watch import Keeper
from trialfleet.errors import DatabaseUnavailableError, FleetError, StudyNotFoundError
from trialfleet.postgres.retry import patiently
from trialfleet.settings import Settings
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

log = structlog.get_logger()


class Fleet:
    """Keeps every open study going.

    What one study has wrong with it (an artifact store that fails, a version that cannot read it)
    is a warning, and no other study's trouble.

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
        self._complaints: dict[int, str] = {}  # what was said of a study that cannot be kept

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
        for study in studies.find_open(self._database):
            if study.search_id not in self._keepers:
                self._begin(study)
        for search_id, keeper in list(self._keepers.items()):
            try:
                found = keeper.look()
            except StudyNotFoundError:
                log.info("study deleted", study=keeper.name)
                del self._keepers[search_id]
            except DatabaseUnavailableError:
                raise
            except FleetError as exc:
                self._complain(search_id, keeper.name, exc)
            else:
                self._complaints.pop(search_id, None)
                if found.ended or found.search_id != search_id:
                    keeper.resign()
                    del self._keepers[search_id]
                if found.ended and found.search_id == search_id:
                    self._tell(found)

    def _begin(self, study: Study) -> None:
        try:
            studies.refuse_unusable(study)
        except FleetError as exc:
            self._complain(study.search_id, study.name, exc)
            return
        notices = self._make_notices() if self._make_notices is not None else None
        self._keepers[study.search_id] = Keeper(
            self._database, study.name, settings=self._settings, notices=notices
        )

    def _tell(self, study: Study) -> None:
        try:
            self._ended(study)
        except FleetError as exc:
            log.warning("study ended", study=study.name, trouble=f"{exc}")

    def _complain(self, search_id: int, name: str, error: FleetError) -> None:
        reason = f"{error}. {error.remedy}"
        if self._complaints.get(search_id) != reason:
            self._complaints[search_id] = reason
            log.warning("cannot keep a study going", study=name, reason=reason)
