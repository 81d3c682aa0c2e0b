"""Learning curves in and out of the database: the mean return of each agent at each evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from trialfleet.store.storage import Database

# The guard on this table refuses a worker that has lost its lease.
WRITE = text("""
    INSERT INTO fleet.curves (trial_id, step, returns) VALUES (:trial_id, :step, :returns)
    ON CONFLICT (trial_id, step) DO UPDATE SET returns = excluded.returns
""")
READ = text("""
    SELECT t.number, c.step, c.returns FROM fleet.curves c JOIN public.trials t USING (trial_id)
    WHERE t.study_id = :study_id ORDER BY t.number, c.step
""")

Curve = list[tuple[int, list[float]]]  # (environment step, mean return of each agent [S])


def write(connection: Connection, trial_id: int, step: int, returns: Sequence[float]) -> None:
    """Store one point; writing it again changes nothing.

    Args:
        connection: In a transaction that carries the trial's fence.
        trial_id: Optuna's row.
        step: Environment steps of each agent so far.
        returns: Mean return of each agent, `[S]`.
    """
    values = {"trial_id": trial_id, "step": step, "returns": [float(r) for r in returns]}
    connection.execute(WRITE, values)


def read(database: Database, study_id: int) -> dict[int, Curve]:
    """Every curve of one Optuna study, by trial number."""
    curves: dict[int, Curve] = {}
    with database.transaction() as connection:
        for row in connection.execute(READ, {"study_id": study_id}):
            curves.setdefault(row.number, []).append((row.step, list(row.returns)))
    return curves
