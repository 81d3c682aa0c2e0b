"""The statements on Optuna's tables, each one round trip.

Optuna keeps naive UTC in its timestamps, and in its values a mark beside the number: NULL with
INF_POS, INF_NEG or NAN stands for what many databases cannot store in a float column. PostgreSQL
can, so the statements translate on both ways.
"""

from __future__ import annotations

from sqlalchemy import text

CREATE_STUDY = text("""
    WITH study AS (
        INSERT INTO public.studies (study_name) VALUES (:name) RETURNING study_id
    ), directions AS (
        INSERT INTO public.study_directions (study_id, objective, direction)
        SELECT study_id, d.ordinality - 1, CAST(d.direction AS public.studydirection)
        FROM study, unnest(CAST(:directions AS text[])) WITH ORDINALITY AS d (direction, ordinality)
    )
    SELECT study_id FROM study
""")
STUDY_ID = text("SELECT study_id FROM public.studies WHERE study_name = :name")
STUDY_NAME = text("SELECT study_name FROM public.studies WHERE study_id = :study_id")
# The study's row is locked as `create_new_trial` locks it.
LOCK_STUDY = text("SELECT 1 FROM public.studies WHERE study_id = :study_id FOR UPDATE")
RENAME_STUDY = text("UPDATE public.studies SET study_name = :name WHERE study_id = :study_id")
# A part of its trials at a time, so that no statement takes long and whoever waits can be told how
# far it is; those under way, and all else, go with the study itself.
DELETE_TRIALS = text("SELECT fleet.delete_trials(:study_id, :most)")
DELETE_STUDY = text("DELETE FROM public.studies WHERE study_id = :study_id")
DIRECTIONS = text("""
    SELECT direction::text FROM public.study_directions
    WHERE study_id = :study_id ORDER BY objective
""")
# One row of the study itself where it has no attribute, so that a missing study has none.
STUDY_ATTRIBUTES = {
    table: text(f"""
        SELECT a.key, a.value_json FROM public.studies s
        LEFT JOIN public.{table} a USING (study_id) WHERE s.study_id = :study_id
    """)  # noqa: S608
    for table in ("study_user_attributes", "study_system_attributes")
}
SET_STUDY_ATTRIBUTE = {
    table: text(f"""
        INSERT INTO public.{table} (study_id, key, value_json) VALUES (:study_id, :key, :value)
        ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
    """)  # noqa: S608
    for table in ("study_user_attributes", "study_system_attributes")
}
ALL_STUDIES = text("""
    SELECT s.study_id, s.study_name,
        ARRAY(SELECT d.direction::text FROM public.study_directions d
              WHERE d.study_id = s.study_id ORDER BY d.objective) AS directions,
        ARRAY(SELECT ARRAY[a.key, a.value_json] FROM public.study_user_attributes a
              WHERE a.study_id = s.study_id ORDER BY a.study_user_attribute_id) AS user_attrs,
        ARRAY(SELECT ARRAY[a.key, a.value_json] FROM public.study_system_attributes a
              WHERE a.study_id = s.study_id ORDER BY a.study_system_attribute_id) AS system_attrs
    FROM public.studies s ORDER BY s.study_id
""")

# The number is the count, under the study's lock, as Optuna's own is.
CREATE_TRIAL = text("""
    INSERT INTO public.trials (study_id, number, state, datetime_start)
    SELECT :study_id, count(*), 'RUNNING', now() AT TIME ZONE 'utc'
    FROM public.trials WHERE study_id = :study_id
    RETURNING trial_id
""")
# FOR UPDATE: its state decides what may be written next.
LOCK_TRIAL = text("SELECT state::text FROM public.trials WHERE trial_id = :trial_id FOR UPDATE")
TRIAL_STATE = text("SELECT state::text FROM public.trials WHERE trial_id = :trial_id")
SET_STATE = text("""
    UPDATE public.trials SET state = CAST(:state AS public.trialstate),
        datetime_start = CASE WHEN :state = 'RUNNING' THEN now() AT TIME ZONE 'utc'
            ELSE datetime_start END,
        datetime_complete = CASE WHEN :state IN ('COMPLETE', 'PRUNED', 'FAIL')
            THEN now() AT TIME ZONE 'utc' ELSE datetime_complete END
    WHERE trial_id = :trial_id
""")
SET_VALUES = text("""
    INSERT INTO public.trial_values (trial_id, objective, value, value_type)
    SELECT :trial_id, v.ordinality - 1,
        CASE WHEN v.value IN ('Infinity', '-Infinity') THEN NULL ELSE v.value END,
        CAST(CASE v.value WHEN 'Infinity' THEN 'INF_POS' WHEN '-Infinity' THEN 'INF_NEG'
            ELSE 'FINITE' END AS public.trialvaluetype)
    FROM unnest(CAST(:values AS float8[])) WITH ORDINALITY AS v (value, ordinality)
    ON CONFLICT (trial_id, objective) DO UPDATE
        SET value = excluded.value, value_type = excluded.value_type
""")
# Nothing is written to a trial that has finished, nor returned then; in our own studies the guard
# sees to it as well.
_UNFINISHED = "t.trial_id = :trial_id AND t.state IN ('RUNNING', 'WAITING')"
SET_INTERMEDIATE_VALUES = text(f"""
    INSERT INTO public.trial_intermediate_values
        (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT :trial_id, v.step,
        CASE WHEN v.value IN ('Infinity', '-Infinity', 'NaN') THEN NULL ELSE v.value END,
        CAST(CASE v.value WHEN 'Infinity' THEN 'INF_POS' WHEN '-Infinity' THEN 'INF_NEG'
            WHEN 'NaN' THEN 'NAN' ELSE 'FINITE' END AS public.trialintermediatevaluetype)
    FROM public.trials t,
        unnest(CAST(:steps AS integer[]), CAST(:values AS float8[])) AS v (step, value)
    WHERE {_UNFINISHED}
    ON CONFLICT (trial_id, step) DO UPDATE
        SET intermediate_value = excluded.intermediate_value,
            intermediate_value_type = excluded.intermediate_value_type
    RETURNING trial_id
""")  # noqa: S608
SET_TRIAL_ATTRIBUTES = {
    table: text(f"""
        INSERT INTO public.{table} (trial_id, key, value_json)
        SELECT :trial_id, a.key, a.value_json FROM public.trials t,
            unnest(CAST(:keys AS text[]), CAST(:values AS text[])) AS a (key, value_json)
        WHERE {_UNFINISHED}
        ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
        RETURNING trial_id
    """)  # noqa: S608
    for table in ("trial_user_attributes", "trial_system_attributes")
}
# In the order in which they were suggested, which Optuna reads back by param_id.
SET_PARAMS = text(f"""
    INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT :trial_id, p.name, p.value, p.distribution
    FROM public.trials t,
        unnest(CAST(:names AS text[]), CAST(:values AS float8[]), CAST(:distributions AS text[]))
            WITH ORDINALITY AS p (name, value, distribution, ordinality)
    WHERE {_UNFINISHED}
    ORDER BY p.ordinality
    ON CONFLICT (trial_id, param_name) DO UPDATE
        SET param_value = excluded.param_value, distribution_json = excluded.distribution_json
    RETURNING trial_id
""")  # noqa: S608
# Another trial's distribution of the same name, which a new one must be compatible with.
KNOWN_DISTRIBUTION = text("""
    SELECT p.distribution_json FROM public.trials t
    JOIN public.trials other ON other.study_id = t.study_id
    JOIN public.trial_params p ON p.trial_id = other.trial_id
    WHERE t.trial_id = :trial_id AND p.param_name = :name LIMIT 1
""")
GET_PARAM = text("""
    SELECT param_value FROM public.trial_params
    WHERE trial_id = :trial_id AND param_name = :name
""")
TRIAL_ID = text("""
    SELECT trial_id FROM public.trials WHERE study_id = :study_id AND number = :number
""")
COUNT = text("""
    SELECT s.study_id, (SELECT count(*) FROM public.trials t
        WHERE t.study_id = s.study_id AND t.state::text = ANY(CAST(:states AS text[]))) AS trials
    FROM public.studies s WHERE s.study_id = :study_id
""")
BEST = text("""
    SELECT t.trial_id FROM public.trials t JOIN public.trial_values v USING (trial_id)
    WHERE t.study_id = :study_id AND t.state = 'COMPLETE' AND v.objective = 0
    ORDER BY :sign * CASE v.value_type WHEN 'INF_POS' THEN 'Infinity'::float8
        WHEN 'INF_NEG' THEN '-Infinity'::float8 ELSE v.value END DESC, t.trial_id LIMIT 1
""")

_VALUE = """CASE {type} WHEN 'FINITE' THEN {value} WHEN 'INF_POS' THEN 'Infinity'::float8
            WHEN 'INF_NEG' THEN '-Infinity'::float8 ELSE 'NaN'::float8 END"""
_STEP = _VALUE.format(type="i.intermediate_value_type", value="i.intermediate_value")
CURVE = f"""
    ARRAY(SELECT i.step FROM public.trial_intermediate_values i
          WHERE i.trial_id = t.trial_id ORDER BY i.step) AS steps,
    ARRAY(SELECT {_STEP} FROM public.trial_intermediate_values i
          WHERE i.trial_id = t.trial_id ORDER BY i.step) AS curve
"""  # noqa: S608
# All there is of a trial in one row.
TRIAL = f"""
    t.trial_id, t.number, t.state::text AS state, t.datetime_start, t.datetime_complete, {CURVE},
    ARRAY(SELECT {_VALUE.format(type="v.value_type", value="v.value")} FROM public.trial_values v
          WHERE v.trial_id = t.trial_id ORDER BY v.objective) AS objectives,
    ARRAY(SELECT p.param_name FROM public.trial_params p
          WHERE p.trial_id = t.trial_id ORDER BY p.param_id) AS names,
    ARRAY(SELECT p.param_value FROM public.trial_params p
          WHERE p.trial_id = t.trial_id ORDER BY p.param_id) AS params,
    ARRAY(SELECT p.distribution_json FROM public.trial_params p
          WHERE p.trial_id = t.trial_id ORDER BY p.param_id) AS distributions,
    ARRAY(SELECT ARRAY[a.key, a.value_json] FROM public.trial_user_attributes a
          WHERE a.trial_id = t.trial_id ORDER BY a.trial_user_attribute_id) AS user_attrs,
    ARRAY(SELECT ARRAY[a.key, a.value_json] FROM public.trial_system_attributes a
          WHERE a.trial_id = t.trial_id ORDER BY a.trial_system_attribute_id) AS system_attrs
"""  # noqa: S608
GET_TRIAL = text(f"SELECT {TRIAL} FROM public.trials t WHERE t.trial_id = :trial_id")  # noqa: S608
UNFINISHED = text(f"""
    SELECT {TRIAL} FROM public.trials t
    WHERE t.study_id = :study_id AND t.state IN ('RUNNING', 'WAITING') ORDER BY t.trial_id
""")  # noqa: S608
# `fleet.finished` numbers a study's finished trials in the order in which they were committed.
FINISHED = text(f"""
    SELECT f.position, {TRIAL} FROM fleet.finished f JOIN public.trials t USING (trial_id)
    WHERE f.study_id = :study_id AND f.position > :known ORDER BY f.position LIMIT :rows
""")  # noqa: S608
# How far a process could read, and how many of those there are COMPLETE: one row, so they agree.
# Imported trials have no curve that a pruner could compare with.
POSITION = text("""
    SELECT c.finished, c.complete - coalesce(s.imported, 0) AS complete
    FROM fleet.counters c LEFT JOIN fleet.studies s ON s.search_id = c.study_id
    WHERE c.study_id = :study_id
""")
# A column of numbers for each step, as the eight bytes each that they are in memory. A long history
# is grouped in memory instead of on disk.
FINISHED_CURVES = text(f"""
    SELECT set_config('work_mem', '64MB', true);
    SELECT i.step, string_agg(float8send({_STEP}), ''::bytea) AS values
    FROM fleet.finished f JOIN public.trials t USING (trial_id)
    JOIN public.trial_intermediate_values i USING (trial_id)
    WHERE f.study_id = :study_id AND f.position > :known AND f.position <= :position
      AND t.state = 'COMPLETE'
    GROUP BY i.step
""")  # noqa: S608
_RUNG = """
    SELECT substr(a.key, 16)::integer AS rung, t.number, a.value_json::float8 AS value
    FROM {trials} JOIN public.trial_system_attributes a USING (trial_id)
    WHERE {which} AND starts_with(a.key, 'completed_rung_')
"""
FINISHED_RUNGS = text(
    _RUNG.format(
        trials="fleet.finished f JOIN public.trials t USING (trial_id)",
        which="f.study_id = :study_id AND f.position > :known AND f.position <= :position",
    )
)
UNFINISHED_RUNGS = text(
    _RUNG.format(
        trials="public.trials t",
        which="t.study_id = :study_id AND t.state IN ('RUNNING', 'WAITING')",
    )
)
