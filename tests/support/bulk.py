"""Many finished trials at once, for tests of what takes long with many."""

from __future__ import annotations

from sqlalchemy import text

from trialfleet.postgres.waiting import unhurried
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import life

# As workers leave them, with fewer rows of each kind. Triggers count the trials; those of the rows
# would look at each.
TRIALS = text("""
    INSERT INTO public.trials (study_id, number, state, datetime_start, datetime_complete)
    SELECT :study_id, n, 'COMPLETE', now() AT TIME ZONE 'utc', now() AT TIME ZONE 'utc'
    FROM generate_series(0, :trials - 1) n
""")
ROWS = (
    """
    INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT t.trial_id, p.name, p.low + (p.high - p.low) * (t.number % 97) / 97.0,
        json_build_object('name', 'FloatDistribution', 'attributes', json_build_object(
            'step', NULL, 'low', p.low, 'high', p.high, 'log', p.log))::text
    FROM public.trials t, (VALUES ('learning_rate', 1e-4, 1e-2, true), ('gamma', 0.9, 0.999, false))
        AS p (name, low, high, log)
    WHERE t.study_id = :study_id
    """,
    """
    INSERT INTO public.trial_values (trial_id, objective, value, value_type)
    SELECT trial_id, 0, number % 500, 'FINITE' FROM public.trials WHERE study_id = :study_id
    """,
    """
    INSERT INTO public.trial_intermediate_values
        (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT trial_id, step, number % 500, 'FINITE'
    FROM public.trials, generate_series(8, 8 * :points, 8) step WHERE study_id = :study_id
    """,
    """
    INSERT INTO fleet.metrics (trial_id, name, step, values)
    SELECT trial_id, name, step, ARRAY[number % 500, number % 499]
    FROM public.trials, generate_series(8, 8 * :points, 8) step,
        unnest(ARRAY['return', 'length']) name
    WHERE study_id = :study_id
    """,
    """
    INSERT INTO public.trial_user_attributes (trial_id, key, value_json)
    SELECT trial_id, a.key, a.value FROM public.trials, (VALUES
        ('scores', '[1.0, 2.0]'), ('seeds', '[1, 2]'), ('device', '"cpu"'), ('worker', '"bulk"'),
        ('versions', '{"trialfleet": "0"}')) AS a (key, value)
    WHERE study_id = :study_id
    """,
    """
    INSERT INTO fleet.attempts
        (trial_id, claim_id, worker, lease, expires_at, ended_at, outcome)
    SELECT trial_id, gen_random_uuid(), 'bulk', '1 second', now(), now(), 'finished'
    FROM public.trials WHERE study_id = :study_id
    """,
)


def fill(database: Database, study: Study, *, trials: int, points: int = 4) -> None:
    """Give a new study's search so many COMPLETE trials, each with so many points of its curve."""
    values = {"study_id": study.search_id, "trials": trials, "points": points}
    with unhurried(), database.transaction() as connection:
        life.steer(connection)
        connection.execute(TRIALS, values)
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in ROWS:
            connection.execute(text(statement), values)
    with unhurried(), database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
