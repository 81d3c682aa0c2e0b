"""Studies that are paused, stopped, extended and added to while their workers run."""

from __future__ import annotations

from importlib import import_module

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

artifacts = import_module("migrations.versions.0006_artifacts")
deletion = import_module("migrations.versions.0004_deletion")
reports = import_module("migrations.versions.0009_reports")


def upgrade() -> None:
    op.execute("""
        ALTER TABLE fleet.studies
            ADD COLUMN paused_at timestamptz,
            ADD COLUMN paused_seconds float8 NOT NULL DEFAULT 0,
            ADD COLUMN stopped text,
            ADD COLUMN rules boolean NOT NULL DEFAULT true,
            ADD COLUMN imported integer NOT NULL DEFAULT 0,
            ADD COLUMN finals integer NOT NULL DEFAULT 0
    """)
    op.execute(FORMER_FINALS)
    for function in (CLAIM, REFUSAL, FORGET_STUDY):
        op.execute(_replacing(function))


def downgrade() -> None:
    for function in (reports.CLAIM, deletion.REFUSAL, artifacts.FORGET_STUDY):
        op.execute(_replacing(function))
    # Their studies stay, as stock Optuna's own.
    op.execute("DROP TABLE fleet.former_finals")
    for name in ("finals", "imported", "rules", "stopped", "paused_seconds", "paused_at"):
        op.execute(f"ALTER TABLE fleet.studies DROP COLUMN {name}")


def _replacing(function: str) -> str:
    return function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")


# Final stages that an extension has taken the place of, with what they found.
FORMER_FINALS = """
CREATE TABLE fleet.former_finals (
    search_id integer NOT NULL,
    final_id integer NOT NULL UNIQUE REFERENCES public.studies (study_id) ON DELETE CASCADE,
    edition integer NOT NULL,  -- its place among the study's final stages, from 0
    budget integer NOT NULL,  -- of the search when it was over
    result jsonb,
    reason text,
    ended_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (search_id, edition)
)
"""

# As in 0009, and the study is read again once it is locked: who steers it holds the same lock.
CLAIM = """
CREATE FUNCTION fleet.claim(
    study_name text, claim_key uuid, worker_name text, seconds float8,
    OUT expired boolean, OUT fence bigint, OUT trial_id integer, OUT number integer,
    OUT stage text, OUT attempt bigint
) LANGUAGE plpgsql AS $$
DECLARE
    study fleet.studies%ROWTYPE;
    kept fleet.counters%ROWTYPE;
    subject integer;
    locked integer;
    from_step bigint := 0;
    completed integer := 0;
BEGIN
    expired := false;
    FOR i IN 1..2 LOOP
        SELECT * INTO study FROM fleet.studies s WHERE s.name = study_name;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'study % was deleted', study_name USING ERRCODE = 'FL003';
        END IF;
        IF study.stage NOT IN ('search', 'final') THEN
            RETURN;
        END IF;
        subject := CASE study.stage WHEN 'search' THEN study.search_id ELSE study.final_id END;
        -- Before and after the lock: the claim may have been made, and only its reply was lost.
        SELECT a.fence, a.trial_id, t.number INTO fence, trial_id, number
            FROM fleet.attempts a JOIN public.trials t ON t.trial_id = a.trial_id
            WHERE a.claim_id = claim_key AND a.ended_at IS NULL;
        IF FOUND THEN
            stage := study.stage;
            SELECT count(*) INTO attempt FROM fleet.attempts a
                WHERE a.trial_id = claim.trial_id AND a.fence <= claim.fence;
            RETURN;
        END IF;
        IF EXISTS (
            SELECT FROM fleet.attempts a WHERE a.claim_id = claim_key AND a.ended_at IS NOT NULL
        ) THEN
            RETURN;
        END IF;
        IF study.paused_at IS NOT NULL OR i = 2 AND subject <> locked THEN
            RETURN;
        END IF;
        SELECT * INTO kept FROM fleet.counters c WHERE c.study_id = subject;
        EXIT WHEN i = 2;
        -- After a restart of PostgreSQL everybody gets one lease's time to come back.
        SELECT true INTO expired FROM fleet.attempts a
            JOIN public.trials t ON t.trial_id = a.trial_id
            WHERE a.ended_at IS NULL AND a.expires_at < now()
              AND pg_postmaster_start_time() + a.lease < now()
              AND t.study_id IN (study.search_id, study.final_id) LIMIT 1;
        IF expired THEN
            RETURN;
        END IF;
        expired := false;
        IF coalesce(kept.waiting, 0) = 0 AND (study.stage = 'final'
            OR study.stopped IS NOT NULL
            OR kept.running + kept.complete + kept.pruned >= study.budget
            OR kept.failed > study.max_failures) THEN
            RETURN;
        END IF;
        PERFORM FROM public.studies s WHERE s.study_id = subject FOR UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'study % was deleted', study_name USING ERRCODE = 'FL003';
        END IF;
        locked := subject;
    END LOOP;

    -- SKIP LOCKED: a row that a reaper is about to change is not worth waiting for. And nobody
    -- looks through a long study for what the counters say is not there.
    SELECT t.trial_id, t.number INTO trial_id, number FROM public.trials t
        WHERE kept.waiting > 0 AND t.study_id = subject AND t.state = 'WAITING'
        ORDER BY t.number LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        SELECT coalesce(max(c.step), 0), coalesce(max(c.rungs), 0) INTO from_step, completed
            FROM fleet.checkpoints c WHERE c.trial_id = claim.trial_id;
        PERFORM fleet.forget_reports(trial_id, from_step, completed);
        UPDATE public.trials t SET state = 'RUNNING', datetime_start = now() AT TIME ZONE 'utc'
            WHERE t.trial_id = claim.trial_id;
    ELSIF study.stage = 'final' OR study.stopped IS NOT NULL
        OR kept.failed > study.max_failures
        OR kept.waiting + kept.running + kept.complete + kept.pruned >= study.budget THEN
        RETURN;
    ELSE
        -- Optuna keeps naive UTC in its timestamps. The number is the count of all rows.
        INSERT INTO public.trials AS t (study_id, number, state, datetime_start)
        VALUES (subject, coalesce(
                kept.waiting + kept.running + kept.complete + kept.pruned + kept.failed, 0),
            'RUNNING', now() AT TIME ZONE 'utc')
        RETURNING t.trial_id, t.number INTO trial_id, number;
    END IF;
    INSERT INTO fleet.attempts AS a (trial_id, claim_id, worker, lease, expires_at, step)
    VALUES (claim.trial_id, claim_key, worker_name, make_interval(secs => seconds),
        now() + make_interval(secs => seconds), from_step)
    RETURNING a.fence INTO fence;
    SELECT count(*) INTO attempt FROM fleet.attempts a WHERE a.trial_id = claim.trial_id;
    stage := study.stage;
END $$
"""

# As in 0004; former final stages are ours, too.
OURS = """SELECT 1 FROM public.trials t JOIN fleet.studies s
            ON t.study_id = s.search_id OR t.study_id = s.final_id
        WHERE t.trial_id = subject AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
"""
FORMER = """    UNION ALL
        SELECT 1 FROM public.trials t JOIN fleet.former_finals f ON t.study_id = f.final_id
        WHERE t.trial_id = subject AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
"""
assert deletion.REFUSAL.count(OURS) == 1
REFUSAL = deletion.REFUSAL.replace(OURS, OURS + FORMER)

# As in 0006, and former final stages go along.
FORGOTTEN = "DELETE FROM public.studies WHERE study_id = OLD.final_id;"
assert artifacts.FORGET_STUDY.count(FORGOTTEN) == 1
FORGET_STUDY = artifacts.FORGET_STUDY.replace(
    FORGOTTEN,
    """DELETE FROM public.studies WHERE study_id = OLD.final_id OR study_id IN (
        SELECT final_id FROM fleet.former_finals WHERE search_id = OLD.search_id
    );""",
)
