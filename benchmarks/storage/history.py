"""A study's past, written in bulk: trials that look as if workers had run them."""

from __future__ import annotations

import json

from optuna.distributions import BaseDistribution, distribution_to_json
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from trialfleet.postgres.database import Postgres

_BATCH = 5_000  # trials in a transaction

# Each with a value, every parameter somewhere in its range, and the reports of a whole training.
TRIALS = text("""
    WITH trials AS (
        INSERT INTO public.trials (study_id, number, state, datetime_start, datetime_complete)
        SELECT :study_id, number, 'COMPLETE', now() AT TIME ZONE 'utc', now() AT TIME ZONE 'utc'
        FROM generate_series(:first, :last) AS number
        RETURNING trial_id, number
    ), scores AS (
        INSERT INTO public.trial_values (trial_id, objective, value, value_type)
        SELECT trial_id, 0, 500 * random(), 'FINITE' FROM trials
    ), params AS (
        INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)
        SELECT trial_id, name, low + floor((high - low + whole) * random() * whole)
            + (high - low) * random() * (1 - whole), distribution
        FROM trials, jsonb_to_recordset(CAST(:params AS jsonb))
            AS p (name text, low float8, high float8, whole integer, distribution text)
    )
    INSERT INTO public.trial_intermediate_values
        (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT trial_id, step, 500 * random(), 'FINITE'
    FROM trials, unnest(CAST(:steps AS integer[])) AS step
""")
# What the triggers of our own database keep.
FINISHED = text("""
    INSERT INTO fleet.finished (study_id, position, trial_id)
    SELECT study_id, number + 1, trial_id FROM public.trials WHERE study_id = :study_id
""")
COUNTERS = text("""
    INSERT INTO fleet.counters (study_id, waiting, running, complete, pruned, failed, finished)
    VALUES (:study_id, 0, 0, :trials, 0, 0, :trials)
    ON CONFLICT (study_id) DO UPDATE SET complete = :trials, finished = :trials
""")


def fill(
    postgres: Postgres,
    study_id: int,
    trials: int,
    *,
    distributions: dict[str, BaseDistribution],
    steps: list[int],
    ours: bool,
) -> None:
    """Give an empty study this many COMPLETE trials, the same ones each time, and tidy up after it.

    Args:
        postgres: The database.
        study_id: Optuna's.
        trials: How many.
        distributions: Of the searched parameters.
        steps: At which each trial has reported.
        ours: Whether this database has our own schema, and not Optuna's tables alone.
    """
    values = {
        "study_id": study_id,
        "steps": steps,
        "params": json.dumps([_described(name, each) for name, each in distributions.items()]),
    }
    for first in range(0, trials, _BATCH):
        last = min(trials, first + _BATCH) - 1
        with postgres.transaction() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text("SELECT setseed(:seed)"), {"seed": first / (2.0 * trials)})
            connection.execute(TRIALS, {**values, "first": first, "last": last})
    if trials and ours:
        postgres.call(FINISHED, {"study_id": study_id})
        postgres.call(COUNTERS, {"study_id": study_id, "trials": trials})
    # As a history that has grown over days: what was just written is not still on its way to disk.
    # On a connection of its own: ours begin with settings, which VACUUM cannot stand beside.
    engine = create_engine(postgres.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    postgres.call(text("CHECKPOINT"))


def _described(name: str, distribution: BaseDistribution) -> dict[str, object]:
    choices = getattr(distribution, "choices", None)
    return {
        "name": name,
        "low": 0 if choices else distribution.low,  # type: ignore[attr-defined]
        "high": len(choices) - 1 if choices else distribution.high,  # type: ignore[attr-defined]
        "whole": int(bool(choices) or isinstance(getattr(distribution, "low", None), int)),
        "distribution": distribution_to_json(distribution),
    }
