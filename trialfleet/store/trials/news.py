"""What has ended since somebody looked last, by the numbers of `fleet.finished`.

Whoever has read up to a position has missed nothing before it: the positions are committed in their
order, and a finished trial never changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from trialfleet.store.trials.reading import FEASIBLE, TRAINED, decoded

POSITION = text("SELECT finished FROM fleet.counters WHERE study_id = :study_id")
ENDED_AFTER = text(f"""
    SELECT f.position, t.number, t.state::text AS state, v.value, r.value_json AS reason,
           {FEASIBLE} AS feasible
    FROM fleet.finished f JOIN public.trials t USING (trial_id)
    LEFT JOIN public.trial_values v ON v.trial_id = t.trial_id AND v.objective = 0
    LEFT JOIN public.trial_user_attributes r ON r.trial_id = t.trial_id AND r.key = 'reason'
    WHERE f.study_id = :study_id AND f.position > :position
      AND {TRAINED}
    ORDER BY f.position
""")  # noqa: S608


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial that has ended."""

    position: int  # its place in the order in which trials end
    number: int
    state: str
    value: float | None
    reason: str | None
    feasible: bool  # whether it meets all constraints, as far as they are known


def position(connection: Connection, study_id: int) -> int:
    """The place of the trial that ended last; 0 if none has."""
    return int(connection.scalar(POSITION, {"study_id": study_id}) or 0)


def ended_after(connection: Connection, study_id: int, position: int) -> list[Ended]:
    """The trials that ended after the one at `position`, in the order they ended.

    Those that were imported are left out.
    """
    rows = connection.execute(ENDED_AFTER, {"study_id": study_id, "position": position})
    return [Ended(**{**row._mapping, "reason": decoded(row.reason)}) for row in rows]
