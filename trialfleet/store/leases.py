"""The life of a trial on the database's clock: claim, finish, release, reap.

Guarantees (A to E of docs/architecture.md):

- a trial has at most one lease; whoever holds it, and nobody else, writes to the trial;
- claiming counts under a lock, so no number of workers exceeds the budget;
- a lost or released trial goes back to WAITING as the same row, in one transaction;
- every call may be repeated after a lost connection: a second claim with the same `claim_id`
  returns the first one's lease, a second finish or release changes nothing;
- a study that was deleted meanwhile is a StudyDeletedError, whatever was asked.

Locks are always taken in the order study, trial, attempt. Whoever ends another's lease (reap,
abandon) does so before it writes to the trial: without a lease a trial is written without a fence,
and the ended attempt, locked until the commit, keeps its worker out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import structlog
from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import DBAPIError, OperationalError

from trialfleet import COMPATIBILITY
from trialfleet.errors import LeaseLostError, StudyDeletedError
from trialfleet.postgres.outages import is_locked
from trialfleet.store.storage import Database
from trialfleet.store.trials import life, verdicts
from trialfleet.store.trials.life import Ending

log = structlog.get_logger()

Stage = Literal["search", "final", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A worker's right to one attempt at a trial."""

    fence: int  # grows with every claim of any trial
    trial_id: int  # Optuna's row
    number: int  # Optuna's trial number
    stage: Literal["search", "final"]
    attempt: int  # 1 for a trial that nobody ran before
    study: str = ""  # whose trial it is
    search_id: int | None = None  # of that study, where the worker had not named it


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A trial taken back from a worker that stopped extending its lease."""

    number: int
    worker: str
    state: Literal["WAITING", "FAIL", "PRUNED"]  # what became of the trial


STUDY = text("""
    SELECT stage, search_id, final_id, budget, max_failures, max_attempts
    FROM fleet.studies WHERE name = :study
""")
DELETE_CHECKPOINT = text("DELETE FROM fleet.checkpoints WHERE trial_id = :trial_id")

# The functions say what they lock, and why: migrations/functions.
CLAIM = text("""
    SELECT c.*, s.search_id FROM fleet.claim(:study, :claim_id, :worker, :lease, :reap) c
    LEFT JOIN fleet.studies s ON s.name = :study
""")
CLAIM_ANY = text("""
    SELECT c.*, s.search_id FROM fleet.claim_any(
        :claim_id, :worker, :lease, :compatibility, CAST(:skipped AS text[]),
        CAST(:reaped AS text[])) c
    LEFT JOIN fleet.studies s ON s.name = c.study
""")
# Seconds that a fleet's worker waits for a locked study where no other has a trial to give.
_BUSY = 0.25
# Trials that one transaction takes back or gives up: it holds locks for a moment.
_AT_ONCE = 20
FINISH = text("""
    SELECT fleet.finish(:fence, :trial_id, :sent, CAST(:state AS public.trialstate),
        CAST(:scores AS float8[]),
        CAST(:keys AS text[]), CAST(:values AS text[]),
        CAST(:system_keys AS text[]), CAST(:system_values AS text[])) AS finished
""")
FORGET_REPORTS = text("SELECT fleet.forget_reports(:trial_id, :step, :rungs)")
FORGET_STEP = text("UPDATE fleet.attempts SET step = 0 WHERE fence = :fence")
LOCK_ATTEMPT = text("""
    SELECT outcome, expires_at < now() AS expired FROM fleet.attempts
    WHERE fence = :fence FOR UPDATE
""")
END_ATTEMPT = text("""
    UPDATE fleet.attempts SET ended_at = now(), outcome = :outcome WHERE fence = :fence
""")
END_ATTEMPTS = text("""
    UPDATE fleet.attempts SET ended_at = now(), outcome = :outcome
    WHERE trial_id = ANY(:trial_ids) AND ended_at IS NULL
""")
COUNT_ATTEMPTS = text("""
    SELECT count(*) AS all, count(*) FILTER (WHERE outcome = 'lost') AS lost
    FROM fleet.attempts WHERE trial_id = :trial_id
""")


def claim(
    database: Database, study: str, *, worker: str, claim_id: UUID, lease_seconds: float
) -> Claim | None:
    """A trial to run under a new lease, or None when there is none to be had now.

    Takes the lowest WAITING trial, lost ones taken back first; else starts a new one while fewer
    than the budget count or are under way. The final stage starts none: its trials are enqueued
    when it begins. Whoever finds nothing has locked nothing.

    Raises:
        StudyDeletedError: The study is gone.
    """
    values = {"study": study, "claim_id": claim_id, "worker": worker, "lease": lease_seconds}
    with refusals():
        (row,) = database.call(CLAIM, {**values, "reap": True})
        if row.expired:
            reap(database, study)
            (row,) = database.call(CLAIM, {**values, "reap": False})
    return _claimed(row, study)


def claim_any(
    database: Database,
    *,
    worker: str,
    claim_id: UUID,
    lease_seconds: float,
    skipped: Sequence[str] = (),
) -> Claim | None:
    """A trial of any open study, or None when there is none to be had now.

    A free worker serves the study with the fewest running trials for its priority, of those that
    have trials to give; of equals, the one that was served longest ago. Studies of another
    compatibility number, paused ones and the `skipped` are left out. One that somebody has locked
    is passed over; where it alone has trials to give, this waits for it, but not for long.
    """
    values: dict[str, Any] = {
        "claim_id": claim_id,
        "worker": worker,
        "lease": lease_seconds,
        "compatibility": COMPATIBILITY,
        "skipped": [*skipped],
    }
    reaped: list[str] = []  # each once: what cannot be taken back now is not waited for
    while True:
        with refusals():
            (row,) = database.call(CLAIM_ANY, {**values, "reaped": reaped})
        if not row.expired:
            break
        with suppress(StudyDeletedError):
            reap(database, row.study)
        reaped.append(row.study)
    if not row.busy:
        return _claimed(row, row.study, row.search_id)
    study = row.study
    try:
        with refusals():
            (row,) = database.call(
                CLAIM, {**values, "study": study, "reap": False}, lock_seconds=_BUSY
            )
    except StudyDeletedError:
        return None
    except OperationalError as exc:
        if is_locked(exc):
            return None
        raise
    return _claimed(row, study, row.search_id)


def _claimed(row: Any, study: str, search_id: int | None = None) -> Claim | None:
    if row.fence is None:
        return None
    return Claim(
        fence=row.fence,
        trial_id=row.trial_id,
        number=row.number,
        stage=row.stage,
        attempt=row.attempt,
        study=study,
        search_id=search_id,
    )


@contextmanager
def refusals() -> Iterator[None]:
    """The SQLSTATEs of our functions, and of the guard, as exceptions.

    Raises:
        LeaseLostError: The trial is another worker's by now; nothing was written.
        StudyDeletedError: It is gone, and its study with it.
    """
    try:
        yield
    except DBAPIError as exc:
        reason = str(exc.orig).strip().partition("\n")[0]
        match getattr(exc.orig, "pgcode", None):
            case "FL001" | "FL002":
                raise LeaseLostError(reason) from exc
            case "FL003":
                raise StudyDeletedError(reason) from exc
        raise


def _study(connection: Connection, name: str) -> Row[Any]:
    row = connection.execute(STUDY, {"study": name}).one_or_none()
    if row is None:
        raise StudyDeletedError(f"study {name!r} was deleted")
    return row


def finish(
    database: Database,
    claim: Claim,
    *,
    state: Ending,
    values: Sequence[float] = (),
    attributes: Mapping[str, Any],
    system_attributes: Mapping[str, Any] | None = None,
    sent: int = 0,
) -> bool:
    """Write the trial's outcome and end the lease, all or nothing.

    Args:
        database: Of this process.
        claim: Ours.
        state: What the trial becomes, for good.
        values: Of each objective, finite; none for FAIL, and PRUNED before the first report.
        attributes: User attributes to store with it, JSON values.
        system_attributes: Optuna's own, such as the rungs of its last verdict.
        sent: The last step that it has reported; 0 if none.

    Returns:
        False if the server has lost reports in a crash; nothing was written, and they are to be
        sent again first.

    Raises:
        LeaseLostError: The trial is another worker's by now; nothing was written.
        StudyDeletedError: It is gone, and its study with it.
    """
    system = system_attributes or {}
    parameters = {
        "fence": claim.fence,
        "trial_id": claim.trial_id,
        "sent": sent,
        "state": state,
        "scores": [*values],
        "keys": [*attributes],
        # allow_nan=False: JSON has no NaN, and PostgreSQL's readers would stumble over it.
        "values": [json.dumps(each, allow_nan=False) for each in attributes.values()],
        "system_keys": [*system],
        "system_values": [json.dumps(each) for each in system.values()],
    }
    with refusals():
        return bool(database.call(FINISH, parameters)[0].finished)


def start_over(database: Database, claim: Claim) -> None:
    """Forget the trial's checkpoint, which cannot be gone on from, and all it reported."""
    with database.transaction(claim.fence) as connection:
        connection.execute(DELETE_CHECKPOINT, {"trial_id": claim.trial_id})
        connection.execute(FORGET_REPORTS, {"trial_id": claim.trial_id, "step": 0, "rungs": 0})
        # Nothing is stored any more: a report that a crash of the server loses is noticed by this.
        connection.execute(FORGET_STEP, {"fence": claim.fence})


def release(database: Database, claim: Claim) -> None:
    """Give the trial back for anyone to take at once; no attempt is spent.

    Raises:
        LeaseLostError: It is another worker's by now.
        StudyDeletedError: It is gone, and its study with it.
    """
    with database.transaction(claim.fence) as connection:
        if _hold(connection, claim, then="released"):
            life.set_waiting(connection, claim.trial_id)
            connection.execute(END_ATTEMPT, {"fence": claim.fence, "outcome": "released"})


def _hold(connection: Connection, claim: Claim, *, then: str) -> bool:
    """Lock trial and lease for an ending; False if exactly this ending has happened already."""
    trial = life.lock(connection, claim.trial_id)
    attempt = connection.execute(LOCK_ATTEMPT, {"fence": claim.fence}).one_or_none()
    if not trial or attempt is None:
        raise StudyDeletedError(f"the study of trial {claim.number} was deleted")
    if attempt.outcome is not None and attempt.outcome != then:
        raise LeaseLostError(f"trial {claim.number} was {attempt.outcome} under {claim.fence}")
    return attempt.outcome is None


def reap(database: Database, study: str) -> list[Lost]:
    """Take back every trial whose lease has expired: WAITING, or FAIL after `max_attempts` losses.

    A RUNNING row without a lease, which is none of our workers', goes back to WAITING, too. Anyone
    may call it at any time; two reapers never handle the same trial. One whose row, or whose
    lease's, somebody has locked is left for the next time.

    Raises:
        StudyDeletedError: The study is gone.
    """
    lost: list[Lost] = []
    taken = _AT_ONCE
    while taken == _AT_ONCE:
        with database.transaction() as connection:
            row = _study(connection, study)
            study_ids = [each for each in (row.search_id, row.final_id) if each is not None]
            life.steer(connection)
            expired = life.lock_expired(connection, study_ids, most=_AT_ONCE)
            taken = len(expired)
            lost += [
                _take_back(connection, trial, max_attempts=row.max_attempts) for trial in expired
            ]
            for trial in life.lock_orphans(connection, study_ids):
                life.set_waiting(connection, trial.trial_id)
                log.warning("took back a trial that no worker of ours runs", trial=trial.number)
    for each in lost:
        log.warning("took back a lost trial", trial=each.number, worker=each.worker, now=each.state)
    return lost


def _take_back(connection: Connection, trial: Row[Any], *, max_attempts: int) -> Lost:
    connection.execute(END_ATTEMPT, {"fence": trial.fence, "outcome": "lost"})
    attempts = connection.execute(COUNT_ATTEMPTS, {"trial_id": trial.trial_id}).one()
    if attempts.lost >= max_attempts:
        times = {1: "once", 2: "twice"}.get(attempts.lost, f"{attempts.lost} times")
        reason = f"lost with its worker {times}; the last worker was {trial.worker}"
        state = _give_up(connection, trial.trial_id, reason, attempts=attempts.all)
        return Lost(number=trial.number, worker=trial.worker, state=state)
    life.set_waiting(connection, trial.trial_id)
    return Lost(number=trial.number, worker=trial.worker, state="WAITING")


def abandon(
    connection: Connection, study_id: int, reason: str, *, unbegun_only: bool = False
) -> int:
    """End every trial of an Optuna study that has not ended, and its lease; how many FAIL by that.

    Args:
        connection: Of the caller's transaction.
        study_id: Optuna's.
        reason: Why.
        unbegun_only: Only those that no worker has ever claimed.
    """
    life.lock_study(connection, study_id)
    life.steer(connection)
    # All at once: the study is locked, and there may be thousands that somebody has enqueued.
    pending = life.lock_pending(connection, study_id, unbegun_only=unbegun_only)
    connection.execute(END_ATTEMPTS, {"trial_ids": pending, "outcome": "lost"})
    audited = verdicts.among(connection, pending)
    for trial_id in audited:
        attempts = connection.execute(COUNT_ATTEMPTS, {"trial_id": trial_id}).one()
        _give_up(connection, trial_id, reason, attempts=attempts.all)
    failed = [trial_id for trial_id in pending if trial_id not in audited]
    life.fail(connection, failed, reason)
    return len(failed)


def _give_up(
    connection: Connection, trial_id: int, reason: str, *, attempts: int
) -> Literal["FAIL", "PRUNED"]:
    """End a trial that nobody is to go on with; a pruned one that was trained on is PRUNED."""
    verdict = verdicts.read(connection, trial_id)
    if verdict is None:
        _fail(connection, trial_id, reason, attempts=attempts)
        return "FAIL"
    verdicts.set_system_attributes(connection, trial_id, verdict.rungs)
    life.set_finished(
        connection,
        trial_id,
        state="PRUNED",
        value=verdict.value,
        attributes={**verdict.attributes, "audit": {"reason": reason}, "attempts": attempts},
    )
    return "PRUNED"


def _fail(connection: Connection, trial_id: int, reason: str, **attributes: int) -> None:
    told = {"reason": reason, **attributes}
    life.set_finished(connection, trial_id, state="FAIL", value=None, attributes=told)
