"""Trials that somebody has made, as rows: any number of them in a few statements.

`BaseStorage` inserts a trial with a template in seven round trips, and whoever adds a thousand
holds the study's lock for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from optuna.trial import FrozenTrial
from sqlalchemy import Connection, TextClause, text

from trialfleet.store.optuna.rows import distribution_text, utc

# Numbers go on from the count, under the study's lock, as Optuna's own do. Whoever fills in a
# template writes it to a running trial, then gives it its state: nothing is written to one that has
# finished.
INSERT = text("""
    INSERT INTO public.trials (study_id, number, state, datetime_start)
    SELECT :study_id, there.trials + place - 1, 'RUNNING', now() AT TIME ZONE 'utc'
    FROM (SELECT count(*) AS trials FROM public.trials WHERE study_id = :study_id) AS there,
        generate_series(1, :rows) AS place
    ORDER BY place
    RETURNING trial_id
""")
VALUES = text("""
    INSERT INTO public.trial_values (trial_id, objective, value, value_type)
    SELECT v.trial_id, v.objective,
        CASE WHEN v.value IN ('Infinity', '-Infinity') THEN NULL ELSE v.value END,
        CAST(CASE v.value WHEN 'Infinity' THEN 'INF_POS' WHEN '-Infinity' THEN 'INF_NEG'
            ELSE 'FINITE' END AS public.trialvaluetype)
    FROM unnest(CAST(:trial_ids AS integer[]), CAST(:objectives AS integer[]),
        CAST(:values AS float8[])) AS v (trial_id, objective, value)
""")
# In the order in which they were suggested, which Optuna reads back by param_id.
PARAMS = text("""
    INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT p.trial_id, p.name, p.value, p.distribution
    FROM unnest(CAST(:trial_ids AS integer[]), CAST(:names AS text[]), CAST(:values AS float8[]),
        CAST(:distributions AS text[]))
        WITH ORDINALITY AS p (trial_id, name, value, distribution, place)
    ORDER BY p.place
""")
ATTRIBUTES = {
    table: text(f"""
        INSERT INTO public.{table} (trial_id, key, value_json)
        SELECT a.trial_id, a.key, a.value
        FROM unnest(CAST(:trial_ids AS integer[]), CAST(:keys AS text[]), CAST(:values AS text[]))
            WITH ORDINALITY AS a (trial_id, key, value, place)
        ORDER BY a.place
    """)  # noqa: S608
    for table in ("trial_user_attributes", "trial_system_attributes")
}
REPORTS = text("""
    INSERT INTO public.trial_intermediate_values
        (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT v.trial_id, v.step,
        CASE WHEN v.value IN ('Infinity', '-Infinity', 'NaN') THEN NULL ELSE v.value END,
        CAST(CASE v.value WHEN 'Infinity' THEN 'INF_POS' WHEN '-Infinity' THEN 'INF_NEG'
            WHEN 'NaN' THEN 'NAN' ELSE 'FINITE' END AS public.trialintermediatevaluetype)
    FROM unnest(CAST(:trial_ids AS integer[]), CAST(:steps AS integer[]),
        CAST(:values AS float8[])) AS v (trial_id, step, value)
""")
STATES = text("""
    UPDATE public.trials t SET state = CAST(s.state AS public.trialstate),
        datetime_start = s.started, datetime_complete = s.completed
    FROM unnest(CAST(:trial_ids AS integer[]), CAST(:states AS text[]),
        CAST(:started AS timestamp[]), CAST(:completed AS timestamp[]))
        AS s (trial_id, state, started, completed)
    WHERE t.trial_id = s.trial_id
""")


def insert(connection: Connection, study_id: int, templates: Sequence[FrozenTrial]) -> list[int]:
    """Insert the trials in the caller's transaction, which has locked the study; their ids."""
    if not templates:
        return []
    found = connection.scalars(INSERT, {"study_id": study_id, "rows": len(templates)})
    trials = [*zip(sorted(found), templates, strict=True)]
    _write(
        connection,
        VALUES,
        ("trial_ids", "objectives", "values"),
        (
            (trial_id, place, float(value))
            for trial_id, trial in trials
            for place, value in enumerate(trial.values or ())
        ),
    )
    _write(
        connection,
        PARAMS,
        ("trial_ids", "names", "values", "distributions"),
        (
            (
                trial_id,
                name,
                float(trial.distributions[name].to_internal_repr(value)),
                distribution_text(trial.distributions[name]),
            )
            for trial_id, trial in trials
            for name, value in trial.params.items()
        ),
    )
    for table, kind in (
        ("trial_user_attributes", "user_attrs"),
        ("trial_system_attributes", "system_attrs"),
    ):
        _write(
            connection,
            ATTRIBUTES[table],
            ("trial_ids", "keys", "values"),
            (
                (trial_id, key, json.dumps(value))
                for trial_id, trial in trials
                for key, value in getattr(trial, kind).items()
            ),
        )
    _write(
        connection,
        REPORTS,
        ("trial_ids", "steps", "values"),
        (
            (trial_id, step, float(value))
            for trial_id, trial in trials
            for step, value in trial.intermediate_values.items()
        ),
    )
    _write(
        connection,
        STATES,
        ("trial_ids", "states", "started", "completed"),
        (
            (trial_id, trial.state.name, utc(trial.datetime_start), utc(trial.datetime_complete))
            for trial_id, trial in trials
        ),
    )
    return [trial_id for trial_id, _ in trials]


def _write(
    connection: Connection,
    statement: TextClause,
    columns: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
) -> None:
    """Run a statement that takes each column as an array, if there are any rows."""
    arrays = [[*column] for column in zip(*rows, strict=True)]
    if arrays:
        connection.execute(statement, dict(zip(columns, arrays, strict=True)))
