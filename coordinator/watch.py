"""The coordinator's loop: reap, count, begin the final stage, notice the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from coordinator.dashboard.publish import publish
from coordinator.final import begin_final
from coordinator.lead import Leadership
from coordinator.monitoring.notices import Notices
from coordinator.result import StillRunningError, conclude
from coordinator.retrain import ModelLostError, train_again
from trialfleet.errors import ArtifactStoreError, StudyFailedError
from trialfleet.postgres.retry import patiently
from trialfleet.settings import Settings
from trialfleet.store import leases, studies
from trialfleet.store.artifacts import checkpoints, owned
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.reading import Counts

log = structlog.get_logger()

# Only an unfinished study ends, so a second coordinator's ending changes nothing.
END = text("""
    UPDATE fleet.studies
    SET stage = :stage, result = CAST(:result AS jsonb), reason = :reason, ended_at = now()
    WHERE name = :name AND stage IN ('search', 'final')
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
    leadership = Leadership(database, name, lease_seconds=settings.lease_seconds)
    leads: bool | None = None
    told: str | None = None  # the stage that the notes tell of

    def look() -> Study:
        nonlocal leads, told
        before, leads = leads, leadership.hold()
        if leads != before:
            log.info("leading" if leads else "standing by for the leader", study=name)
        if not leads:
            return _stand_by(database, name)
        if notices is not None:
            notices.begin(name)
        study = step(database, name)
        if notices is not None:
            notices.look(study)
        if study.stage != told:
            _tell(database, study)
            told = study.stage
        return study

    try:
        while True:
            study = patiently(look, patience=settings.outage_patience, pause=pause)
            if study.stage == "failed":
                raise failure(study)
            if study.ended:
                return study
            pause(settings.poll_seconds)
    finally:
        with suppress(SQLAlchemyError):
            leadership.resign()


def failure(study: Study) -> StudyFailedError:
    """The error that says why a failed study failed."""
    return StudyFailedError(f"study {study.name!r} failed: {study.reason}")


def step(database: Database, name: str) -> Study:
    """One look at the study, and whatever is due: reap, begin the final stage, or end."""
    _reap(database, name)
    study = studies.find(database, name)
    if study.stage == "search":
        _look_at_search(database, study)
    elif study.stage == "final":
        _look_at_final(database, study)
    # After the looks: the trial whose end they noticed may have ended only while they looked.
    checkpoints.forget_ended(database, study)
    owned.sweep(database)
    return studies.find(database, name)


def _tell(database: Database, study: Study) -> None:
    """Bring the dashboard's notes up to date; a store that fails there fails no study."""
    try:
        publish(database, study)
    except ArtifactStoreError as exc:
        log.warning("notes and files for the dashboard not written", reason=str(exc))


def _stand_by(database: Database, name: str) -> Study:
    """Reap, which needs no leader: one that was killed a moment ago leads until its lease ends."""
    _reap(database, name)
    return studies.find(database, name)


def _reap(database: Database, name: str) -> None:
    for lost in leases.reap(database, name):
        log.warning("took back a lost trial", trial=lost.number, worker=lost.worker, now=lost.state)


def _look_at_search(database: Database, study: Study) -> None:
    counts = count(database, study.search_id)
    if counts.failed > study.max_failures:
        reasons = _last_reasons(database, study.search_id)
        _fail(database, study, f"{counts.failed} trials failed, the last: {reasons}")
    elif counts.counted >= study.budget and counts.pending == 0:
        finalists = begin_final(database, study)
        if finalists:
            log.info("final stage begins", finalists=[finalist.number for finalist in finalists])
        else:
            _fail(database, study, "no trial was completed, so there is nothing to retrain")


def _look_at_final(database: Database, study: Study) -> None:
    assert study.final_id is not None
    if count(database, study.final_id).pending > 0:
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
    values = {"name": study.name, "stage": "done", "result": json.dumps(result), "reason": None}
    with database.transaction() as connection:
        connection.execute(END, values)
    log.info("study done", study=study.name)


def _fail(database: Database, study: Study, reason: str) -> None:
    values = {"name": study.name, "stage": "failed", "result": None, "reason": reason}
    with database.transaction() as connection:
        # Trials under way end with the study: nothing stays RUNNING or WAITING.
        leases.abandon(connection, study.search_id, f"the study ended: {reason}")
        connection.execute(END, values)
    log.info("study failed", study=study.name, reason=reason)


def _last_reasons(database: Database, study_id: int) -> str:
    with database.transaction() as connection:
        rows = reading.last_reasons(connection, study_id)
    return "; ".join(f"trial {number}: {reason or 'no reason'}" for number, reason in rows)
