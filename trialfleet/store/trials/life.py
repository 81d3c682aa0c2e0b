"""What a claim, an ending and a start over write to Optuna's rows of a trial.

Called by `trialfleet.store.leases`, which owns the attempts. Each function is a part of the
caller's transaction, whose fence the guard compares with the trial's lease.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

# The study row is locked as Optuna's own `create_new_trial` locks it, so that the count, the next
# number and the insert are one step, for stock Optuna beside us too.
LOCK_STUDY = text("SELECT 1 FROM public.studies WHERE study_id = :study_id FOR UPDATE")

# SKIP LOCKED: a row that a reaper is about to change is not worth waiting for.
LOWEST_WAITING = text("""
    SELECT trial_id, number FROM public.trials
    WHERE study_id = :study_id AND state = 'WAITING'
    ORDER BY number LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
""")

COUNT_ROWS = text("""
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

# Reports past the checkpoint would mix with those of the new attempt.
DELETE_REPORTS = text("""
    DELETE FROM public.trial_intermediate_values WHERE trial_id = :trial_id AND step > :step
""")
# Successive halving and Hyperband write a rung before they say "prune", and judge no trial twice on
# one rung. They are numbered from 0 as the trial completes them.
COUNT_RUNGS = text(r"""
    SELECT count(*) FROM public.trial_system_attributes
    WHERE trial_id = :trial_id AND key LIKE 'completed\_rung\_%'
""")
DELETE_RUNGS = text("""
    DELETE FROM public.trial_system_attributes
    WHERE trial_id = :trial_id
      AND CAST(substring(key FROM '^completed_rung_([0-9]+)$') AS integer) >= :rungs
""")

# NO KEY: a report's foreign-key check need not wait for us.
LOCK_TRIAL = text("SELECT number FROM public.trials WHERE trial_id = :trial_id FOR NO KEY UPDATE")
NUMBER = text("SELECT number FROM public.trials WHERE trial_id = :trial_id")

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

# After a restart of PostgreSQL everybody gets one lease's time to come back before being given up.
# A trial locked by somebody is being finished, released or reaped already.
LOCK_EXPIRED = text("""
    SELECT t.trial_id, t.number, a.fence, a.worker
    FROM public.trials t JOIN fleet.attempts a USING (trial_id)
    WHERE t.study_id = ANY(:study_ids) AND a.ended_at IS NULL AND a.expires_at < now()
      AND pg_postmaster_start_time() + a.lease < now()
    ORDER BY t.trial_id
    FOR NO KEY UPDATE OF t SKIP LOCKED
""")
LOCK_PENDING = text("""
    SELECT t.trial_id, a.fence
    FROM public.trials t
    LEFT JOIN fleet.attempts a ON a.trial_id = t.trial_id AND a.ended_at IS NULL
    WHERE t.study_id = :study_id AND t.state IN ('RUNNING', 'WAITING')
    ORDER BY t.trial_id FOR NO KEY UPDATE OF t
""")

Ending = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A trial's row that a claim may have."""

    trial_id: int
    number: int


def lock_study(connection: Connection, study_id: int) -> bool:
    """Let nobody else number or count the study's trials until the end of the transaction.

    Returns:
        False if the study was deleted.
    """
    return connection.scalar(LOCK_STUDY, {"study_id": study_id}) is not None


def lowest_waiting(connection: Connection, study_id: int) -> Place | None:
    """The WAITING trial with the lowest number, locked."""
    row = connection.execute(LOWEST_WAITING, {"study_id": study_id}).one_or_none()
    return None if row is None else Place(**row._mapping)


def start_waiting(connection: Connection, trial_id: int) -> None:
    """WAITING -> RUNNING."""
    connection.execute(START_WAITING, {"trial_id": trial_id})


def start_new(
    connection: Connection, study_id: int, *, budget: int, max_failures: int
) -> Place | None:
    """A new RUNNING trial with the next number, under the study's lock.

    Returns:
        None if the budget is spent or under way, or too many trials have failed.
    """
    found = connection.execute(COUNT_ROWS, {"study_id": study_id}).one()
    if found.rows - found.failed >= budget or found.failed > max_failures:
        return None
    values = {"study_id": study_id, "number": found.rows}
    return Place(**connection.execute(INSERT_TRIAL, values).one()._mapping)


def forget_reports(connection: Connection, trial_id: int, *, after: int, rungs: int) -> None:
    """Delete what earlier attempts reported past step `after`, and rungs past the first `rungs`.

    The trial is then judged as one that was not lost.
    """
    connection.execute(DELETE_REPORTS, {"trial_id": trial_id, "step": after})
    connection.execute(DELETE_RUNGS, {"trial_id": trial_id, "rungs": rungs})


def count_rungs(connection: Connection, trial_id: int) -> int:
    """How many rungs of successive halving or Hyperband the trial has completed."""
    return int(connection.scalar(COUNT_RUNGS, {"trial_id": trial_id}) or 0)


def number(connection: Connection, trial_id: int) -> int:
    """Optuna's number of the trial."""
    return int(connection.execute(NUMBER, {"trial_id": trial_id}).scalar_one())


def lock(connection: Connection, trial_id: int) -> bool:
    """Lock the trial's row for an ending; False if it was deleted."""
    return connection.execute(LOCK_TRIAL, {"trial_id": trial_id}).one_or_none() is not None


def set_waiting(connection: Connection, trial_id: int) -> None:
    """RUNNING -> WAITING, for anyone to claim."""
    connection.execute(SET_WAITING, {"trial_id": trial_id})


def set_finished(
    connection: Connection,
    trial_id: int,
    *,
    state: Ending,
    value: float | None,
    attributes: Mapping[str, Any],
) -> None:
    """Write the trial's outcome, its state last: nothing can be written after it."""
    if value is not None:
        connection.execute(SET_VALUE, {"trial_id": trial_id, "value": value})
    # allow_nan=False: JSON has no NaN, and PostgreSQL's readers would stumble over it.
    values = [json.dumps(each, allow_nan=False) for each in attributes.values()]
    connection.execute(
        SET_ATTRIBUTES, {"trial_id": trial_id, "keys": [*attributes], "values": values}
    )
    connection.execute(SET_FINISHED, {"trial_id": trial_id, "state": state})


def lock_expired(connection: Connection, study_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Lock the trials whose lease has expired: (trial_id, number, fence, worker)."""
    return connection.execute(LOCK_EXPIRED, {"study_ids": list(study_ids)}).all()


def lock_pending(connection: Connection, study_id: int) -> Sequence[Row[Any]]:
    """Lock the trials that have not ended: (trial_id, fence or None)."""
    return connection.execute(LOCK_PENDING, {"study_id": study_id}).all()
