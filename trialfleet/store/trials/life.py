"""What a claim, an ending and a start over write to Optuna's rows of a trial.

Called by `trialfleet.store.leases`, which owns the attempts. Each function is a part of the
caller's transaction, whose fence the guard compares with the trial's lease.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

# The study row is locked as Optuna's own `create_new_trial` locks it, so that the count, the next
# number and the insert are one step, for stock Optuna beside us too.
LOCK_STUDY = text("SELECT 1 FROM public.studies WHERE study_id = :study_id FOR UPDATE")

# Successive halving and Hyperband store a rung as a trial completes it, numbered from 0.
COUNT_RUNGS = text(r"""
    SELECT count(*) FROM public.trial_system_attributes
    WHERE trial_id = :trial_id AND key LIKE 'completed\_rung\_%'
""")

# NO KEY: a report's foreign-key check need not wait for us.
LOCK_TRIAL = text("SELECT number FROM public.trials WHERE trial_id = :trial_id FOR NO KEY UPDATE")
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
# Of many trials: why, and how often each was tried.
SET_REASONS = text("""
    INSERT INTO public.trial_user_attributes (trial_id, key, value_json)
    SELECT t.trial_id, told.key, told.value
    FROM unnest(CAST(:trial_ids AS integer[])) AS t (trial_id),
        LATERAL (VALUES ('reason', :reason), ('attempts', (
            SELECT count(*)::text FROM fleet.attempts a WHERE a.trial_id = t.trial_id
        ))) AS told (key, value)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
""")
SET_FAILED = text("""
    UPDATE public.trials SET state = 'FAIL', datetime_complete = now() AT TIME ZONE 'utc'
    WHERE trial_id = ANY(:trial_ids)
""")
SET_WAITING = text("UPDATE public.trials SET state = 'WAITING' WHERE trial_id = :trial_id")

# After a restart of PostgreSQL everybody gets one lease's time to come back before being given up.
# A trial locked by somebody is being finished, released or reaped already; a lease, extended, or
# written under at this moment.
LOCK_EXPIRED = text("""
    SELECT t.trial_id, t.number, a.fence, a.worker
    FROM public.trials t JOIN fleet.attempts a USING (trial_id)
    WHERE t.study_id = ANY(:study_ids) AND a.ended_at IS NULL AND a.expires_at < now()
      AND pg_postmaster_start_time() + a.lease < now()
    ORDER BY t.trial_id LIMIT :most
    FOR NO KEY UPDATE OF t, a SKIP LOCKED
""")
# RUNNING rows that nobody has a lease of: no worker of ours leaves one. The counters tell at once
# that there is none.
LOCK_ORPHANS = text("""
    SELECT t.trial_id, t.number FROM public.trials t
    WHERE t.study_id = ANY(:study_ids) AND t.state = 'RUNNING'
      AND (SELECT sum(c.running) FROM fleet.counters c WHERE c.study_id = ANY(:study_ids))
        > (SELECT count(*) FROM fleet.attempts a JOIN public.trials r USING (trial_id)
           WHERE a.ended_at IS NULL AND r.state = 'RUNNING' AND r.study_id = ANY(:study_ids))
      AND NOT EXISTS (
        SELECT FROM fleet.attempts a WHERE a.trial_id = t.trial_id AND a.ended_at IS NULL)
    ORDER BY t.trial_id
    FOR NO KEY UPDATE OF t SKIP LOCKED
""")
LEASED = text("SELECT 1 FROM fleet.attempts WHERE trial_id = :trial_id AND ended_at IS NULL")
LOCK_PENDING = text("""
    SELECT t.trial_id FROM public.trials t
    WHERE t.study_id = :study_id AND t.state IN ('RUNNING', 'WAITING')
      AND (NOT :unbegun_only OR t.state = 'WAITING'
           AND NOT EXISTS (SELECT FROM fleet.attempts b WHERE b.trial_id = t.trial_id))
    ORDER BY t.trial_id FOR NO KEY UPDATE OF t
""")

# The guard takes whoever writes without a lease and does not say this for a stranger.
STEER = text("SELECT fleet.steer()")

Ending = Literal["COMPLETE", "PRUNED", "FAIL"]


def steer(connection: Connection) -> None:
    """Let the transaction write to trials that it holds no lease of; the guard asks for it."""
    connection.execute(STEER)


def lock_study(connection: Connection, study_id: int) -> bool:
    """Let nobody else number or count the study's trials until the end of the transaction.

    Returns:
        False if the study was deleted.
    """
    return connection.scalar(LOCK_STUDY, {"study_id": study_id}) is not None


def count_rungs(connection: Connection, trial_id: int) -> int:
    """How many rungs of successive halving or Hyperband the trial has completed."""
    return int(connection.scalar(COUNT_RUNGS, {"trial_id": trial_id}) or 0)


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


def fail(connection: Connection, trial_ids: Sequence[int], reason: str) -> None:
    """FAIL trials that are locked, all for one reason."""
    values = {"trial_ids": list(trial_ids), "reason": json.dumps(reason, allow_nan=False)}
    connection.execute(SET_REASONS, values)
    connection.execute(SET_FAILED, {"trial_ids": list(trial_ids)})


def lock_expired(
    connection: Connection, study_ids: Sequence[int], *, most: int
) -> Sequence[Row[Any]]:
    """Lock trials whose lease has expired, and the lease: (trial_id, number, fence, worker)."""
    values = {"study_ids": list(study_ids), "most": most}
    return connection.execute(LOCK_EXPIRED, values).all()


def lock_orphans(connection: Connection, study_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Lock the RUNNING trials that have no lease: (trial_id, number)."""
    found = connection.execute(LOCK_ORPHANS, {"study_ids": list(study_ids)}).all()
    # A worker may have claimed one of them while we waited for nothing but its row.
    return [row for row in found if connection.scalar(LEASED, {"trial_id": row.trial_id}) is None]


def lock_pending(connection: Connection, study_id: int, *, unbegun_only: bool = False) -> list[int]:
    """Lock the trials that have not ended, or not even begun; their ids."""
    values = {"study_id": study_id, "unbegun_only": unbegun_only}
    return list(connection.scalars(LOCK_PENDING, values))
