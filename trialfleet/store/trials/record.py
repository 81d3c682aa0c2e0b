"""One trial as a person asks for it: how it ended and why, and who ran it when."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

TRIAL = text("""
    SELECT t.trial_id, t.number, t.state::text AS state,
           t.datetime_start AT TIME ZONE 'utc' AS started,
           t.datetime_complete AT TIME ZONE 'utc' AS ended,
           ARRAY(SELECT v.value FROM public.trial_values v
                 WHERE v.trial_id = t.trial_id ORDER BY v.objective) AS "values"
    FROM public.trials t WHERE t.study_id = :study_id AND t.number = :number
""")
ATTRIBUTES = text("""
    SELECT key, value_json FROM public.trial_user_attributes WHERE trial_id = :trial_id
    ORDER BY key
""")
# A lost attempt ends when somebody notices; its worker had the lease for no longer than it ran.
ATTEMPTS = text("""
    SELECT worker, claimed_at AS began,
           least(ended_at, CASE WHEN outcome = 'lost' THEN expires_at END) AS ended, outcome, step
    FROM fleet.attempts WHERE trial_id = :trial_id ORDER BY fence
""")


@dataclass(frozen=True, kw_only=True)
class RanBy:
    """One run of the trial by a worker."""

    worker: str
    began: datetime
    ended: datetime | None  # None while it runs
    outcome: str | None  # finished, released or lost
    step: int  # the last one that it has reported, of each agent


@dataclass(frozen=True, kw_only=True)
class Record:
    """A trial, its attributes and its attempts, at one moment."""

    number: int
    state: str
    started: datetime | None
    ended: datetime | None
    values: list[float]
    attributes: dict[str, Any]  # the user's, as JSON values
    attempts: list[RanBy]  # the oldest first


def read_record(connection: Connection, study_id: int, number: int) -> Record | None:
    """The trial of this number of an Optuna study; None if there is none."""
    row = connection.execute(TRIAL, {"study_id": study_id, "number": number}).one_or_none()
    if row is None:
        return None
    trial = {"trial_id": row.trial_id}
    attributes = {
        each.key: json.loads(each.value_json) for each in connection.execute(ATTRIBUTES, trial)
    }
    attempts = [RanBy(**each._mapping) for each in connection.execute(ATTEMPTS, trial)]
    return Record(
        number=row.number,
        state=row.state,
        started=row.started,
        ended=row.ended,
        values=list(row.values),
        attributes=attributes,
        attempts=attempts,
    )
