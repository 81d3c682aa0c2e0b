"""Kept, not counted: how many trials are in each state, and the order in which they finished."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in (COUNTERS, FINISHED, FUNCTION, TRIGGER, COUNT_THOSE_THERE, LIST_THOSE_THERE):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER fleet_count ON public.trials")
    op.execute("DROP FUNCTION fleet.count_trial()")
    op.execute("DROP TABLE fleet.finished")
    op.execute("DROP TABLE fleet.counters")


COUNTERS = """
CREATE TABLE fleet.counters (
    study_id integer PRIMARY KEY REFERENCES public.studies (study_id) ON DELETE CASCADE,
    waiting integer NOT NULL,
    running integer NOT NULL,
    complete integer NOT NULL,
    pruned integer NOT NULL,
    failed integer NOT NULL,
    finished bigint NOT NULL  -- the last position in fleet.finished
)
"""
FINISHED = """
CREATE TABLE fleet.finished (
    study_id integer NOT NULL,
    position bigint NOT NULL,
    trial_id integer NOT NULL UNIQUE REFERENCES public.trials (trial_id) ON DELETE CASCADE,
    PRIMARY KEY (study_id, position)
)
"""
# The counters' row is the last that a transaction locks, and stays locked to its commit. So
# positions are committed in their order, and who has read up to one has missed none before it.
# SECURITY DEFINER: whoever may change a trial may not write these tables by hand.
FUNCTION = """
CREATE FUNCTION fleet.count_trial() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text := CASE WHEN TG_OP <> 'INSERT' THEN OLD.state::text END;
    after text := CASE WHEN TG_OP <> 'DELETE' THEN NEW.state::text END;
    study integer := CASE TG_OP WHEN 'DELETE' THEN OLD.study_id ELSE NEW.study_id END;
    ended boolean := coalesce(after IN ('COMPLETE', 'PRUNED', 'FAIL'), false)
        AND coalesce(before NOT IN ('COMPLETE', 'PRUNED', 'FAIL'), true);
    place bigint;
BEGIN
    IF before IS NOT DISTINCT FROM after THEN
        RETURN NULL;
    END IF;
    INSERT INTO fleet.counters AS c
        (study_id, waiting, running, complete, pruned, failed, finished)
    VALUES (
        study,
        coalesce((after = 'WAITING')::integer, 0) - coalesce((before = 'WAITING')::integer, 0),
        coalesce((after = 'RUNNING')::integer, 0) - coalesce((before = 'RUNNING')::integer, 0),
        coalesce((after = 'COMPLETE')::integer, 0) - coalesce((before = 'COMPLETE')::integer, 0),
        coalesce((after = 'PRUNED')::integer, 0) - coalesce((before = 'PRUNED')::integer, 0),
        coalesce((after = 'FAIL')::integer, 0) - coalesce((before = 'FAIL')::integer, 0),
        ended::integer
    )
    ON CONFLICT (study_id) DO UPDATE SET
        waiting = c.waiting + excluded.waiting,
        running = c.running + excluded.running,
        complete = c.complete + excluded.complete,
        pruned = c.pruned + excluded.pruned,
        failed = c.failed + excluded.failed,
        finished = c.finished + excluded.finished
    RETURNING c.finished INTO place;
    IF ended THEN
        INSERT INTO fleet.finished (study_id, position, trial_id)
        VALUES (study, place, NEW.trial_id);
    END IF;
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE TRIGGER fleet_count AFTER INSERT OR DELETE OR UPDATE OF state ON public.trials
FOR EACH ROW EXECUTE FUNCTION fleet.count_trial()
"""
COUNT_THOSE_THERE = """
INSERT INTO fleet.counters
SELECT study_id,
    count(*) FILTER (WHERE state = 'WAITING'), count(*) FILTER (WHERE state = 'RUNNING'),
    count(*) FILTER (WHERE state = 'COMPLETE'), count(*) FILTER (WHERE state = 'PRUNED'),
    count(*) FILTER (WHERE state = 'FAIL'),
    count(*) FILTER (WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL'))
FROM public.trials GROUP BY study_id
"""
LIST_THOSE_THERE = """
INSERT INTO fleet.finished (study_id, position, trial_id)
SELECT study_id,
    row_number() OVER (PARTITION BY study_id ORDER BY datetime_complete, trial_id), trial_id
FROM public.trials WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')
"""
