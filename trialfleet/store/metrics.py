"""What a trial measured, in and out of the database: named metrics, a value of each agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from trialfleet.store.storage import Database

READ = text("""
    SELECT t.number, m.step, m.values FROM fleet.metrics m JOIN public.trials t USING (trial_id)
    WHERE t.study_id = :study_id AND m.name = :name ORDER BY t.number, m.step
""")
READ_TRIAL = text("""
    SELECT name, step, values FROM fleet.metrics WHERE trial_id = :trial_id ORDER BY name, step
""")
# The primary key is (trial_id, name, step): a range of its index for each trial.
READ_AFTER = text("""
    SELECT m.trial_id, m.step, m.name, m.values
    FROM unnest(CAST(:trial_ids AS integer[]), CAST(:after AS bigint[])) AS w (trial_id, step)
    JOIN fleet.metrics m ON m.trial_id = w.trial_id AND m.step > w.step
""")
Curve = list[tuple[int, list[float]]]  # (environment step, value of each agent [S])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One row: a metric at one step."""

    step: int  # environment steps of each agent so far
    name: str
    values: Sequence[float]  # of each agent [S]; NaN where an agent has none


def array_text(values: Sequence[float]) -> str:
    """Values as the text of an array: PostgreSQL has no arrays of arrays of different lengths."""
    # The shortest text that reads back as the same float.
    return "{" + ",".join(repr(float(value)) for value in values) + "}"


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


def read_after(
    connection: Connection, after: Mapping[int, int]
) -> dict[int, dict[int, dict[str, list[float]]]]:
    """What trials have measured past a step of each, by trial, step and name.

    A report stores all metrics of a step at once, so no step is ever seen half.

    Args:
        connection: Of a transaction.
        after: The last step known, by trial id; -1 to read all of a trial.
    """
    found: dict[int, dict[int, dict[str, list[float]]]] = {}
    values = {"trial_ids": [*after], "after": [*after.values()]}
    for row in connection.execute(READ_AFTER, values):
        at_step = found.setdefault(row.trial_id, {}).setdefault(row.step, {})
        at_step[row.name] = list(row.values)
    return found
