"""The life of a trial on the database's clock: claim, extend, finish, release, reap.

Guarantees (A to E of docs/architecture.md):

- a trial has at most one lease; whoever holds it, and nobody else, writes to the trial;
- claiming counts under a lock, so no number of workers exceeds the budget;
- a lost or released trial goes back to WAITING as the same row, in one transaction;
- every call may be repeated after a lost connection: a second claim with the same `claim_id`
  returns the first one's lease, a second finish or release changes nothing.

Locks are always taken in the order study, trial, attempt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Row, text

from trialfleet.errors import LeaseLostError
from trialfleet.postgres.database import use_fence
from trialfleet.store.storage import Database

Stage = Literal["search", "final", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A worker's right to one attempt at a trial."""

    fence: int  # grows with every claim of any trial
    trial_id: int  # Optuna's row
    number: int  # Optuna's trial number
    stage: Literal["search", "final"]
    attempt: int  # 1 for a trial that nobody ran before


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A trial taken back from a worker that stopped extending its lease."""

    number: int
    worker: str
    state: Literal["WAITING", "FAIL"]  # what became of the trial


# The study row is locked as Optuna's own `create_new_trial` locks it, so that the count, the next
# number and the insert are one step, for stock Optuna beside us too.
LOCK_STUDY = text("SELECT 1 FROM public.studies WHERE study_id = :study_id FOR UPDATE")

PREVIOUS_CLAIM = text("""
    SELECT a.fence, a.trial_id, t.number, a.ended_at,
           (SELECT count(*) FROM fleet.attempts b
            WHERE b.trial_id = a.trial_id AND b.fence <= a.fence) AS attempt
    FROM fleet.attempts a JOIN public.trials t USING (trial_id)
    WHERE a.claim_id = :claim_id
""")

# SKIP LOCKED: a row that a reaper is about to change is not worth waiting for.
LOWEST_WAITING = text("""
    SELECT trial_id, number FROM public.trials
    WHERE study_id = :study_id AND state = 'WAITING'
    ORDER BY number LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
""")

COUNT_TRIALS = text("""
    SELECT count(*) AS rows,
           count(*) FILTER (WHERE state = 'FAIL') AS failed
    FROM public.trials WHERE study_id = :study_id
""")

# Optuna keeps naive UTC in its timestamps.
INSERT_TRIAL = text("""
    INSERT INTO public.trials (study_id, number, state, datetime_start)
    VALUES (:study_id, :number, 'RUNNING', now() AT TIME ZONE 'utc')
    RETURNING trial_id, number
""")

START_WAITING = text("""
    UPDATE public.trials SET state = 'RUNNING', datetime_start = now() AT TIME ZONE 'utc'
    WHERE trial_id = :trial_id
""")

CHECKPOINT_STEP = text("""
    SELECT coalesce(max(step), 0) FROM fleet.checkpoints WHERE trial_id = :trial_id
""")
# What an earlier attempt reported past the checkpoint would mix with the new attempt's. A trial
# that starts over (step 0) starts clean, without what pruners remember of it.
FORGET_REPORTS = (
    text("""
        DELETE FROM public.trial_intermediate_values
        WHERE trial_id = :trial_id AND step > :step
    """),
    text("DELETE FROM fleet.metrics WHERE trial_id = :trial_id AND step > :step"),
    text(r"""
        DELETE FROM public.trial_system_attributes
        WHERE trial_id = :trial_id AND key LIKE 'completed\_rung\_%' AND :step = 0
    """),
)
FORGET_CHECKPOINT = text("DELETE FROM fleet.checkpoints WHERE trial_id = :trial_id")

OPEN_ATTEMPT = text("""
    INSERT INTO fleet.attempts (trial_id, claim_id, worker, lease, expires_at)
    VALUES (:trial_id, :claim_id, :worker, make_interval(secs => :lease),
            now() + make_interval(secs => :lease))
    RETURNING fence, (SELECT count(*) FROM fleet.attempts WHERE trial_id = :trial_id) + 1 AS attempt
""")

# An expired lease that nobody has reaped yet is still its holder's.
EXTEND = text("""
    UPDATE fleet.attempts SET expires_at = now() + lease
    WHERE fence = :fence AND ended_at IS NULL
""")

# Trial before attempt, as everywhere. NO KEY: a report's foreign-key check need not wait for us.
LOCK_TRIAL = text("SELECT number FROM public.trials WHERE trial_id = :trial_id FOR NO KEY UPDATE")
LOCK_ATTEMPT = text("""
    SELECT outcome, expires_at < now() AS expired FROM fleet.attempts
    WHERE fence = :fence FOR UPDATE
""")

SET_VALUE = text("""
    INSERT INTO public.trial_values (trial_id, objective, value, value_type)
    VALUES (:trial_id, 0, :value, 'FINITE')
    ON CONFLICT (trial_id, objective) DO UPDATE SET value = excluded.value
""")
SET_ATTRIBUTES = text("""
    INSERT INTO public.trial_user_attributes (trial_id, key, value_json)
    SELECT :trial_id, * FROM unnest(CAST(:keys AS text[]), CAST(:values AS text[]))
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
""")
SET_FINISHED = text("""
    UPDATE public.trials SET state = :state, datetime_complete = now() AT TIME ZONE 'utc'
    WHERE trial_id = :trial_id
""")
SET_WAITING = text("UPDATE public.trials SET state = 'WAITING' WHERE trial_id = :trial_id")
END_ATTEMPT = text("""
    UPDATE fleet.attempts SET ended_at = now(), outcome = :outcome WHERE fence = :fence
""")
COUNT_LOSSES = text("""
    SELECT count(*) FROM fleet.attempts WHERE trial_id = :trial_id AND outcome = 'lost'
""")

# After a restart of PostgreSQL everybody gets one lease's time to come back before being given up.
# A trial locked by somebody is being finished, released or reaped already.
EXPIRED = text("""
    SELECT t.trial_id, t.number, a.fence, a.worker, s.max_attempts
    FROM fleet.studies s
    JOIN public.trials t ON t.study_id IN (s.search_id, s.final_id)
    JOIN fleet.attempts a USING (trial_id)
    WHERE s.name = :study AND a.ended_at IS NULL AND a.expires_at < now()
      AND pg_postmaster_start_time() + a.lease < now()
    ORDER BY t.trial_id
    FOR NO KEY UPDATE OF t SKIP LOCKED
""")

PENDING = text("""
    SELECT t.trial_id, a.fence
    FROM public.trials t
    LEFT JOIN fleet.attempts a ON a.trial_id = t.trial_id AND a.ended_at IS NULL
    WHERE t.study_id = :study_id AND t.state IN ('RUNNING', 'WAITING')
    ORDER BY t.trial_id FOR NO KEY UPDATE OF t
""")

STUDY = text("""
    SELECT stage, search_id, final_id, budget, max_failures FROM fleet.studies WHERE name = :study
""")


def claim(
    database: Database, study: str, *, worker: str, claim_id: UUID, lease_seconds: float
) -> Claim | None:
    """A trial to run under a new lease, or None when there is none to be had now.

    Takes the lowest WAITING trial; else starts a new one while fewer than the budget count or are
    under way. The final stage starts none: its trials are enqueued when it begins.
    """
    with database.transaction() as connection:
        row = connection.execute(STUDY, {"study": study}).one()
        if row.stage not in ("search", "final"):
            return None
        study_id = row.search_id if row.stage == "search" else row.final_id
        connection.execute(LOCK_STUDY, {"study_id": study_id})
        previous = connection.execute(PREVIOUS_CLAIM, {"claim_id": claim_id}).one_or_none()
        if previous is not None:
            if previous.ended_at is not None:
                return None
            return Claim(
                fence=previous.fence,
                trial_id=previous.trial_id,
                number=previous.number,
                stage=row.stage,
                attempt=previous.attempt,
            )
        trial = _next_trial(connection, study_id, row)
        if trial is None:
            return None
        attempt = connection.execute(
            OPEN_ATTEMPT,
            {
                "trial_id": trial.trial_id,
                "claim_id": claim_id,
                "worker": worker,
                "lease": lease_seconds,
            },
        ).one()
        return Claim(
            fence=attempt.fence,
            trial_id=trial.trial_id,
            number=trial.number,
            stage=row.stage,
            attempt=attempt.attempt,
        )


def _next_trial(connection: Connection, study_id: int, study: Row[Any]) -> Row[Any] | None:
    waiting = connection.execute(LOWEST_WAITING, {"study_id": study_id}).one_or_none()
    if waiting is not None:
        step = connection.scalar(CHECKPOINT_STEP, {"trial_id": waiting.trial_id})
        for statement in FORGET_REPORTS:
            connection.execute(statement, {"trial_id": waiting.trial_id, "step": step})
        connection.execute(START_WAITING, {"trial_id": waiting.trial_id})
        return waiting
    if study.stage == "final":
        return None
    count = connection.execute(COUNT_TRIALS, {"study_id": study_id}).one()
    if count.rows - count.failed >= study.budget or count.failed > study.max_failures:
        return None
    return connection.execute(INSERT_TRIAL, {"study_id": study_id, "number": count.rows}).one()


def extend(database: Database, fence: int) -> bool:
    """Push the lease's end to its full length from now; False if the lease is gone."""
    with database.transaction() as connection:
        return connection.execute(EXTEND, {"fence": fence}).rowcount == 1


def finish(
    database: Database,
    claim: Claim,
    *,
    state: Literal["COMPLETE", "PRUNED", "FAIL"],
    value: float | None,
    attributes: Mapping[str, Any],
) -> None:
    """Write the trial's outcome and end the lease, all or nothing.

    Args:
        database: Of this process.
        claim: Ours.
        state: What the trial becomes, for good.
        value: Finite, or None (FAIL, or PRUNED before the first report).
        attributes: User attributes to store with it, JSON values.

    Raises:
        LeaseLostError: The trial is another worker's by now; nothing was written.
    """
    with database.transaction(claim.fence) as connection:
        if not _hold(connection, claim, then="finished"):
            return
        if value is not None:
            connection.execute(SET_VALUE, {"trial_id": claim.trial_id, "value": value})
        _set_attributes(connection, claim.trial_id, attributes)
        connection.execute(SET_FINISHED, {"trial_id": claim.trial_id, "state": state})
        connection.execute(END_ATTEMPT, {"fence": claim.fence, "outcome": "finished"})


def start_over(database: Database, claim: Claim) -> None:
    """Forget the trial's checkpoint, which turned out to be damaged, and all it reported."""
    with database.transaction(claim.fence) as connection:
        connection.execute(FORGET_CHECKPOINT, {"trial_id": claim.trial_id})
        for statement in FORGET_REPORTS:
            connection.execute(statement, {"trial_id": claim.trial_id, "step": 0})


def release(database: Database, claim: Claim) -> None:
    """Give the trial back for anyone to take at once; no attempt is spent.

    Raises:
        LeaseLostError: It is another worker's by now.
    """
    with database.transaction(claim.fence) as connection:
        if _hold(connection, claim, then="released"):
            connection.execute(SET_WAITING, {"trial_id": claim.trial_id})
            connection.execute(END_ATTEMPT, {"fence": claim.fence, "outcome": "released"})


def _hold(connection: Connection, claim: Claim, *, then: str) -> bool:
    """Lock trial and lease for an ending; False if exactly this ending has happened already."""
    connection.execute(LOCK_TRIAL, {"trial_id": claim.trial_id})
    outcome = connection.execute(LOCK_ATTEMPT, {"fence": claim.fence}).one().outcome
    if outcome is not None and outcome != then:
        raise LeaseLostError(f"trial {claim.number} was {outcome} under fence {claim.fence}")
    return outcome is None


def _set_attributes(connection: Connection, trial_id: int, attributes: Mapping[str, Any]) -> None:
    # allow_nan=False: JSON has no NaN, and PostgreSQL's readers would stumble over it.
    values = [json.dumps(value, allow_nan=False) for value in attributes.values()]
    connection.execute(
        SET_ATTRIBUTES, {"trial_id": trial_id, "keys": [*attributes], "values": values}
    )


def reap(database: Database, study: str) -> list[Lost]:
    """Take back every trial whose lease has expired: WAITING, or FAIL after `max_attempts` losses.

    Anyone may call it at any time; two reapers never handle the same trial.
    """
    lost: list[Lost] = []
    with database.transaction() as connection:
        for row in connection.execute(EXPIRED, {"study": study}).all():
            attempt = connection.execute(LOCK_ATTEMPT, {"fence": row.fence}).one()
            if attempt.outcome is not None or not attempt.expired:
                continue  # extended or ended while we were waiting for the lock
            lost.append(_take_back(connection, row))
    return lost


def _take_back(connection: Connection, row: Row[Any]) -> Lost:
    losses = 1 + (connection.scalar(COUNT_LOSSES, {"trial_id": row.trial_id}) or 0)
    use_fence(connection, row.fence)
    if losses >= row.max_attempts:
        reason = f"{losses} workers were lost while they ran it; the last was {row.worker}"
        _set_attributes(connection, row.trial_id, {"reason": reason})
        connection.execute(SET_FINISHED, {"trial_id": row.trial_id, "state": "FAIL"})
    else:
        connection.execute(SET_WAITING, {"trial_id": row.trial_id})
    connection.execute(END_ATTEMPT, {"fence": row.fence, "outcome": "lost"})
    return Lost(
        number=row.number,
        worker=row.worker,
        state="FAIL" if losses >= row.max_attempts else "WAITING",
    )


def abandon(connection: Connection, study_id: int, reason: str) -> None:
    """FAIL every trial of an Optuna study that has not ended, and end its lease."""
    connection.execute(LOCK_STUDY, {"study_id": study_id})
    for row in connection.execute(PENDING, {"study_id": study_id}).all():
        use_fence(connection, row.fence)
        _set_attributes(connection, row.trial_id, {"reason": reason})
        connection.execute(SET_FINISHED, {"trial_id": row.trial_id, "state": "FAIL"})
        if row.fence is not None:
            connection.execute(END_ATTEMPT, {"fence": row.fence, "outcome": "lost"})
