"""What a trial measured, in and out of the database: named metrics, a value of each agent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from trialfleet.store.storage import Database

# PostgreSQL has no arrays of arrays of different lengths, so each row's values come as the text of
# an array. The guard on this table refuses a worker that has lost its lease.
WRITE = text("""
    INSERT INTO fleet.metrics (trial_id, step, name, values)
    SELECT :trial_id, m.step, m.name, CAST(m.values AS double precision[])
    FROM unnest(CAST(:steps AS bigint[]), CAST(:names AS text[]), CAST(:values AS text[]))
        AS m (step, name, values)
    ON CONFLICT (trial_id, name, step) DO UPDATE SET values = excluded.values
""")
READ = text("""
    SELECT t.number, m.step, m.values FROM fleet.metrics m JOIN public.trials t USING (trial_id)
    WHERE t.study_id = :study_id AND m.name = :name ORDER BY t.number, m.step
""")
READ_TRIAL = text("""
    SELECT name, step, values FROM fleet.metrics WHERE trial_id = :trial_id ORDER BY name, step
""")
FORGET = text("DELETE FROM fleet.metrics WHERE trial_id = :trial_id AND step > :step")

Curve = list[tuple[int, list[float]]]  # (environment step, value of each agent [S])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One row: a metric at one step."""

    step: int  # environment steps of each agent so far
    name: str
    values: Sequence[float]  # of each agent [S]; NaN where an agent has none


def write(connection: Connection, trial_id: int, metrics: Iterable[Metric]) -> None:
    """Store all of `metrics` in one statement; writing them again changes nothing.

    Args:
        connection: In a transaction that carries the trial's fence.
        trial_id: Optuna's row.
        metrics: With no (step, name) twice.
    """
    rows = list(metrics)
    values = {
        "trial_id": trial_id,
        "steps": [row.step for row in rows],
        "names": [row.name for row in rows],
        # The shortest text that reads back as the same float.
        "values": ["{" + ",".join(repr(float(v)) for v in row.values) + "}" for row in rows],
    }
    connection.execute(WRITE, values)


def forget(connection: Connection, trial_id: int, *, after: int) -> None:
    """Delete what the trial measured past step `after`."""
    connection.execute(FORGET, {"trial_id": trial_id, "step": after})


def read(database: Database, study_id: int, name: str) -> dict[int, Curve]:
    """The curves of metric `name` of one Optuna study, by trial number."""
    curves: dict[int, Curve] = {}
    with database.transaction() as connection:
        for row in connection.execute(READ, {"study_id": study_id, "name": name}):
            curves.setdefault(row.number, []).append((row.step, list(row.values)))
    return curves


def read_trial(database: Database, trial_id: int) -> dict[str, Curve]:
    """All curves of one trial, by the metric's name."""
    curves: dict[str, Curve] = {}
    with database.transaction() as connection:
        for row in connection.execute(READ_TRIAL, {"trial_id": trial_id}):
            curves.setdefault(row.name, []).append((row.step, list(row.values)))
    return curves
