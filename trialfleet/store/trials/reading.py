"""Questions about the trials of one Optuna study; nothing here writes or locks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

COUNT = text("""
    SELECT count(*) FILTER (WHERE state = 'COMPLETE') AS complete,
           count(*) FILTER (WHERE state = 'PRUNED') AS pruned,
           count(*) FILTER (WHERE state = 'FAIL') AS failed,
           count(*) FILTER (WHERE state = 'RUNNING') AS running,
           count(*) FILTER (WHERE state = 'WAITING') AS waiting
    FROM public.trials WHERE study_id = :study_id
""")
# Of a trial t: whether a worker trained it, and whether it meets all constraints as far as they are
# known. An excess above zero is a constraint that is not met, as Optuna reads it.
TRAINED = """NOT EXISTS (SELECT FROM public.trial_user_attributes u
    WHERE u.trial_id = t.trial_id AND u.key = 'imported')"""
FEASIBLE = """NOT EXISTS (SELECT FROM public.trial_system_attributes c,
    json_array_elements_text(c.value_json::json) AS each (excess)
    WHERE c.trial_id = t.trial_id AND c.key = 'constraints' AND each.excess::float8 > 0)"""
CLOSEST = text(f"""
    SELECT t.number, u.value_json AS found FROM public.trials t
    JOIN public.trial_system_attributes c ON c.trial_id = t.trial_id AND c.key = 'constraints'
    JOIN public.trial_user_attributes u ON u.trial_id = t.trial_id AND u.key = 'constraints'
    WHERE t.study_id = :study_id AND t.state = 'COMPLETE' AND {TRAINED}
    ORDER BY (SELECT sum(greatest(each.excess::float8, 0)::numeric)
              FROM json_array_elements_text(c.value_json::json) AS each (excess)), t.number
    LIMIT 1
""")  # noqa: S608
MEAN_SECONDS = text("""
    SELECT avg(extract(epoch FROM datetime_complete - datetime_start)) FROM public.trials t
    WHERE study_id = :study_id AND state = ANY(CAST(:states AS public.trialstate[]))
      AND EXISTS (SELECT FROM fleet.attempts a WHERE a.trial_id = t.trial_id)
""")
LOST = text("""
    SELECT count(*) FROM fleet.attempts a JOIN public.trials t USING (trial_id)
    WHERE a.outcome = 'lost' AND t.study_id = ANY(:study_ids)
""")
FINISHED = text(f"""
    SELECT t.number, t.state::text AS state, r.value_json AS reason,
           (SELECT s.value_json FROM public.trial_user_attributes s
            WHERE s.trial_id = t.trial_id AND s.key = 'source') AS source,
           ARRAY(SELECT v.value FROM public.trial_values v
                 WHERE v.trial_id = t.trial_id ORDER BY v.objective) AS "values"
    FROM public.trials t
    LEFT JOIN public.trial_user_attributes r ON r.trial_id = t.trial_id
        AND r.key = CASE t.state WHEN 'FAIL' THEN 'reason' WHEN 'PRUNED' THEN 'pruned_by' END
    WHERE t.study_id = :study_id AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
      AND {TRAINED}
    ORDER BY t.datetime_complete, t.number
""")  # noqa: S608
LAST_FAILED = text("""
    SELECT t.number, r.value_json AS reason
    FROM public.trials t
    LEFT JOIN public.trial_user_attributes r ON r.trial_id = t.trial_id AND r.key = 'reason'
    WHERE t.study_id = :study_id AND t.state = 'FAIL' ORDER BY t.number DESC LIMIT :limit
""")
PROGRESSING = text("""
    SELECT EXISTS (
        SELECT FROM public.trials t JOIN fleet.attempts a USING (trial_id)
        WHERE t.study_id = :study_id AND t.state = 'RUNNING' AND a.ended_at IS NULL AND a.step > 0
    )
""")
NAMES_TAKEN = text("""
    SELECT study_name FROM public.studies WHERE study_name = ANY(:names) ORDER BY study_name
""")
ATTRIBUTE = text("""
    SELECT a.value_json FROM public.trials t JOIN public.trial_user_attributes a USING (trial_id)
    WHERE t.study_id = :study_id AND a.key = :key
""")
GREATEST = text("""
    SELECT max(a.value_json::int) FROM public.trials t
    JOIN public.trial_system_attributes a USING (trial_id)
    WHERE t.study_id = :study_id AND t.state = 'COMPLETE' AND a.key = :key
""")
SOURCES = text("""
    SELECT t.number, t.state::text AS state, f.position, a.value_json AS asked_for,
           EXISTS (SELECT FROM public.trial_user_attributes i
                   WHERE i.trial_id = t.trial_id AND i.key = 'imported') AS imported
    FROM public.trials t LEFT JOIN fleet.finished f USING (trial_id)
    LEFT JOIN public.trial_system_attributes a
        ON a.trial_id = t.trial_id AND a.key = 'fixed_params'
    WHERE t.study_id = :study_id ORDER BY t.number
""")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many trials of one Optuna study are in each state."""

    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @property
    def counted(self) -> int:
        """Trials that count towards the budget."""
        return self.complete + self.pruned

    @property
    def pending(self) -> int:
        """Trials that have not ended."""
        return self.running + self.waiting

    @property
    def total(self) -> int:
        """All of them: they are numbered from 0 without a gap."""
        return self.counted + self.failed + self.pending


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One trial that has ended."""

    number: int
    state: str
    values: list[float]  # of each objective; none if it failed
    reason: str | None  # why it failed, or was pruned
    source: str | None  # in a final stage: the trial of the search that it trains again


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a trial comes from."""

    number: int
    state: str
    position: int | None  # its place in the order in which trials end
    asked_for: dict[str, Any] | None  # parameters that it was enqueued with
    imported: bool


def count(connection: Connection, study_id: int) -> Counts:
    """The states of the study's trials."""
    return Counts(**connection.execute(COUNT, {"study_id": study_id}).one()._mapping)


def closest(connection: Connection, study_id: int) -> tuple[int, dict[str, float]] | None:
    """The COMPLETE trial that a worker trained and that violates the constraints least.

    Its number, and what they came to.
    """
    row = connection.execute(CLOSEST, {"study_id": study_id}).one_or_none()
    return (row.number, json.loads(row.found)) if row else None


def mean_seconds(connection: Connection, study_id: int, states: Iterable[str]) -> float | None:
    """How long trials that ended in one of `states` took; None if there are none."""
    seconds = connection.scalar(MEAN_SECONDS, {"study_id": study_id, "states": list(states)})
    return None if seconds is None else float(seconds)


def lost_attempts(connection: Connection, study_ids: Iterable[int]) -> int:
    """How many attempts at trials of these studies ended because their worker was lost."""
    return int(connection.scalar(LOST, {"study_ids": list(study_ids)}) or 0)


def finished(connection: Connection, study_id: int) -> list[Finished]:
    """The trials that have ended, in the order they ended; those that were imported left out."""
    return [
        Finished(**{**row._mapping, "reason": decoded(row.reason)})
        for row in connection.execute(FINISHED, {"study_id": study_id})
    ]


def last_reasons(
    connection: Connection, study_id: int, *, limit: int = 3
) -> list[tuple[int, str | None]]:
    """Number and reason of the latest trials that failed, the latest first."""
    rows = connection.execute(LAST_FAILED, {"study_id": study_id, "limit": limit})
    return [(row.number, decoded(row.reason)) for row in rows]


def progressing(connection: Connection, study_id: int) -> bool:
    """Whether a trial under way has reported an evaluation."""
    return bool(connection.scalar(PROGRESSING, {"study_id": study_id}))


def names_taken(connection: Connection, names: Iterable[str]) -> list[str]:
    """Which of these names an Optuna study has already, whoever made it."""
    return list(connection.scalars(NAMES_TAKEN, {"names": list(names)}))


def numbers_in(connection: Connection, study_id: int, key: str) -> set[int]:
    """The values of a user attribute that are whole numbers, over all trials that have it."""
    rows = connection.scalars(ATTRIBUTE, {"study_id": study_id, "key": key})
    return {int(value) for value in rows if value.isdecimal()}


def attributes(connection: Connection, study_id: int, key: str) -> list[str]:
    """A user attribute as JSON text, of all trials that have it."""
    return list(connection.scalars(ATTRIBUTE, {"study_id": study_id, "key": key}))


def sources(connection: Connection, study_id: int) -> list[Source]:
    """Where each trial of the study comes from, by number."""
    return [
        Source(
            **{
                **row._mapping,
                "asked_for": None if row.asked_for is None else json.loads(row.asked_for),
            }
        )
        for row in connection.execute(SOURCES, {"study_id": study_id})
    ]


def greatest(connection: Connection, study_id: int, key: str) -> int | None:
    """The greatest value of a system attribute that holds a whole number, of COMPLETE trials."""
    found = connection.scalar(GREATEST, {"study_id": study_id, "key": key})
    return None if found is None else int(found)


def decoded(value_json: str | None) -> str | None:
    """The text that an attribute holds as JSON, by itself or as the "text" of an object."""
    if value_json is None:
        return None
    value = json.loads(value_json)
    return str(value["text"] if isinstance(value, dict) and "text" in value else value)
