"""The coordinator's loop: reap, count, begin the final stage, notice the end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from coordinator.dashboard.publish import publish
from coordinator.final import begin_final, is_over, nothing_to_retrain
from coordinator.lead import Leadership
from coordinator.monitoring.notices import Notices
from coordinator.race import course as race
from coordinator.result import StillRunningError, conclude
from coordinator.retrain import ModelLostError, train_again
from coordinator.stopping import due
from trialfleet.errors import ArtifactStoreError, SteeringError, StudyFailedError
from trialfleet.escape import storable
from trialfleet.postgres.retry import patiently
from trialfleet.settings import Settings
from trialfleet.store import leases, studies
from trialfleet.store.artifacts import checkpoints, owned
from trialfleet.store.steering import course
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.reading import Counts

log = structlog.get_logger()

# So many trials that fail alike, before any has worked, are enough.
_ALIKE = 3
# Only the stage that was looked at ends: a second coordinator's ending changes nothing, nor does
# one of a search or a final stage that has been extended meanwhile.
END = text("""
    UPDATE fleet.studies
    SET stage = :stage, result = CAST(:result AS jsonb), reason = :reason, ended_at = now()
    WHERE search_id = :search_id AND stage = :at AND budget = :budget
      AND final_id IS NOT DISTINCT FROM :final_id AND stopped IS NOT DISTINCT FROM :stopped
""")


def count(database: Database, study_id: int) -> Counts:
    """The states of one Optuna study's trials, now."""
    with database.transaction() as connection:
        return reading.count(connection, study_id)


def watch(
    database: Database,
    name: str,
    *,
    settings: Settings,
    pause: Callable[[float], object],
    notices: Notices | None = None,
) -> Study:
    """Keep the study going until it has ended; how it ended.

    Killed anywhere and started again, it goes on: every step reads where the study stands and
    changes it in one transaction. While another coordinator leads, this one stands by and only
    takes back lost trials.

    Args:
        database: Of this process.
        name: An existing study.
        settings: Poll and patience.
        pause: Called with the seconds to wait; may raise to end the watching.
        notices: Told how the study goes, by the coordinator that leads.

    Raises:
        StudyFailedError: The study has ended without a winner; the message has the reasons.
        DatabaseUnavailableError: The database stayed away.
    """
    keeper = Keeper(database, name, settings=settings, notices=notices)
    try:
        while True:
            study = patiently(keeper.look, patience=settings.outage_patience, pause=pause)
            if study.stage == "failed":
                raise failure(study)
            if study.ended:
                return study
            pause(settings.poll_seconds)
    finally:
        keeper.resign()


class Keeper:
    """Keeps one study going, as `watch` describes it.

    Args:
        database: Of this process.
        name: An existing study.
        settings: The lease of whoever leads.
        notices: Told how the study goes, while this one leads.
    """

    def __init__(
        self, database: Database, name: str, *, settings: Settings, notices: Notices | None = None
    ) -> None:
        self._database, self.name, self._notices = database, name, notices
        self._leadership = Leadership(database, name, lease_seconds=settings.lease_seconds)
        self._leads: bool | None = None
        self._told: str | None = None  # the stage that the notes tell of
        self._read: set[int] = set()  # Optuna's studies of it

    def look(self) -> Study:
        """Do what is due, if this one leads; how the study stands then."""
        before, self._leads = self._leads, self._leadership.hold()
        if self._leads != before:
            doing = "leading" if self._leads else "standing by for the leader"
            log.info(doing, study=self.name)
        if not self._leads:
            return _stand_by(self._database, self.name)
        if self._notices is not None:
            self._notices.begin(self.name)
        study = step(self._database, self.name)
        self._read.update(study.optuna_ids)
        try:
            if self._notices is not None:
                self._notices.look(study)
            if study.stage != self._told:
                _tell(self._database, study)
                self._told = study.stage
        except IntegrityError:  # what the notes are about was deleted
            return studies.read_again(self._database, study)
        return study

    def resign(self) -> None:
        """Let another lead at once."""
        with suppress(SQLAlchemyError):
            self._leadership.resign()

    def forget(self) -> None:
        """Free what this process remembers of the study's trials."""
        self._database.optuna_storage().forget([*self._read])


def failure(study: Study) -> StudyFailedError:
    """The error that says why a failed study failed."""
    return StudyFailedError(f"study {study.name!r} failed: {study.reason}")


def step(database: Database, name: str) -> Study:
    """One look at the study, and whatever is due: reap, begin the final stage, or end."""
    leases.reap(database, name)
    study = studies.find(database, name)
    if study.stage == "search":
        _look_at_search(database, study)
    elif study.stage == "final":
        _look_at_final(database, study)
    # After the looks: the trial whose end they noticed may have ended only while they looked.
    checkpoints.forget_ended(database, study)
    owned.sweep(database)
    return studies.read_again(database, study)


def _tell(database: Database, study: Study) -> None:
    """Bring the dashboard's notes up to date; a store that fails there fails no study."""
    try:
        publish(database, study)
    except ArtifactStoreError as exc:
        log.warning("notes and files for the dashboard not written", reason=str(exc))


def _stand_by(database: Database, name: str) -> Study:
    """Reap, which needs no leader: one that was killed a moment ago leads until its lease ends."""
    leases.reap(database, name)
    return studies.find(database, name)


def _look_at_search(database: Database, study: Study) -> None:
    counts = count(database, study.search_id)
    if reason := _fails_alike(database, study, counts):
        _fail(database, study, reason)
    elif counts.failed > study.max_failures:
        reasons = _last_reasons(database, study.search_id)
        _fail(database, study, f"{counts.failed} trials failed, the last: {reasons}")
    elif is_over(study, counts):
        finalists = begin_final(database, study)
        if finalists:
            log.info("final stage begins", finalists=[finalist.number for finalist in finalists])
        elif reason := nothing_to_retrain(database, study):
            _fail(database, study, reason)
    elif study.stopped is None and (reason := due(database, study)):
        with suppress(SteeringError):  # somebody has ended the search a moment before
            course.stop(database, study, reason)
            log.info("search stopped", reason=reason)


def _fails_alike(database: Database, study: Study, counts: Counts) -> str | None:
    """Why the study need not go on to its last allowed failure; None if it may be worth it.

    A training that cannot work fails the same way from the first trial on. Nothing ends early as
    long as a trial counts, or one that is under way has come as far as an evaluation; and however
    many workers there are, they have all had time to fail.
    """
    # A retry allows as many failures again as the study file does.
    failed = counts.failed - (study.max_failures - study.spec.search.max_failures)
    if counts.counted > study.imported or failed < max(_ALIKE, counts.running + 1):
        return None
    with database.transaction() as connection:
        if reading.progressing(connection, study.search_id):
            return None
        rows = reading.last_reasons(connection, study.search_id, limit=failed)
    reasons = [reason for _, reason in rows]
    # A seed or a step in it is another one each time.
    if reasons[0] is None or len({re.sub(r"[0-9]+", "", f"{each}") for each in reasons}) > 1:
        return None
    return f"each of {failed} trials failed, and all alike: {reasons[0]}"


def _look_at_final(database: Database, study: Study) -> None:
    assert study.final_id is not None
    if count(database, study.final_id).pending > 0:
        return
    if study.spec.races and race.advance(database, study):
        return
    try:
        result = conclude(database, study)
    except StillRunningError:
        return
    except ModelLostError as lost:
        if train_again(database, study, lost.trial):
            log.warning("a model is lost, its trial is trained again", reason=f"{lost}")
        else:
            _fail(database, study, f"{lost}, for the second time; look at the artifact store")
        return
    if result is None:
        reasons = _last_reasons(database, study.final_id)
        _fail(database, study, f"every finalist failed, the last: {reasons}")
    else:
        _end(database, study, result=result)


def _end(database: Database, study: Study, *, result: dict[str, Any]) -> None:
    with database.transaction() as connection:
        values = _ending(study, stage="done", result=_as_json(result))
        ended = connection.execute(END, values).rowcount == 1
    if ended:
        log.info("study done", study=study.name)


def _fail(database: Database, study: Study, reason: str) -> None:
    with database.transaction() as connection:
        studies.lock(connection, study)
        values = _ending(study, stage="failed", reason=storable(reason))
        ended = connection.execute(END, values).rowcount == 1
        if ended:
            # Trials under way end with the study: nothing stays RUNNING or WAITING.
            leases.abandon(connection, study.search_id, storable(f"the study ended: {reason}"))
    if ended:
        log.info("study failed", study=study.name, reason=reason)


def _as_json(result: dict[str, Any]) -> str:
    """The result as JSON of PostgreSQL, which takes neither NUL nor half a character.

    A study file with one is refused, but there may be studies from before that.
    """
    return json.dumps(_storable(result), allow_nan=False)


def _storable(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case dict():
            return {_storable(key): _storable(each) for key, each in value.items()}
        case list() | tuple():
            return [_storable(each) for each in value]
    return value


def _ending(
    study: Study, *, stage: str, result: str | None = None, reason: str | None = None
) -> dict[str, Any]:
    """What END takes, for a study that stands as it was looked at."""
    return {
        "search_id": study.search_id,
        "at": study.stage,
        "budget": study.budget,
        "final_id": study.final_id,
        "stopped": study.stopped,
        "stage": stage,
        "result": result,
        "reason": reason,
    }


def _last_reasons(database: Database, study_id: int) -> str:
    with database.transaction() as connection:
        rows = reading.last_reasons(connection, study_id)
    return "; ".join(f"trial {number}: {reason or 'no reason'}" for number, reason in rows)
