"""Every attempt at a study's trials, for people who ask where the time went."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

# A lost attempt ends when somebody notices; its worker had the lease for no longer than it ran.
ATTEMPTS = text("""
    SELECT t.study_id, t.number, a.worker, a.claimed_at AS started,
           least(coalesce(a.ended_at, now()), CASE WHEN a.outcome = 'lost' THEN a.expires_at END)
               AS ended,
           coalesce(a.outcome, 'open') AS outcome, a.step
    FROM fleet.attempts a JOIN public.trials t USING (trial_id)
    WHERE t.study_id = ANY(:study_ids) ORDER BY a.fence
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialAttempt:
    """One run of a trial by a worker."""

    study_id: int  # Optuna's
    number: int  # the trial's
    worker: str
    started: datetime
    ended: datetime  # of a lost one, when its lease did; of an open one, now
    outcome: str  # finished, released, lost, or open
    step: int  # the last one that it stored, of each agent

    @property
    def seconds(self) -> float:
        """How long the worker had the trial."""
        return max(0.0, (self.ended - self.started).total_seconds())


def read_attempts(connection: Connection, study_ids: list[int]) -> list[TrialAttempt]:
    """All attempts at the trials of these Optuna studies, the oldest first."""
    rows = connection.execute(ATTEMPTS, {"study_ids": study_ids})
    return [TrialAttempt(**row._mapping) for row in rows]
