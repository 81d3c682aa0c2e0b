"""A fleet of studies: workers that serve all of them, by priority and fair share."""

from __future__ import annotations

from importlib import import_module

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

figures = import_module("migrations.versions.0010_figures")


def upgrade() -> None:
    op.execute("ALTER TABLE fleet.studies ADD COLUMN priority integer NOT NULL DEFAULT 1")
    op.execute("ALTER TABLE fleet.counters ADD COLUMN claimed bigint NOT NULL DEFAULT 0")
    # Those that have ended may be thousands, and are none of a worker's business.
    op.execute("""
        CREATE INDEX studies_open ON fleet.studies (created_at) WHERE stage IN ('search', 'final')
    """)
    for statement in (COUNT_CLAIM, TRIGGER, NEXT_STUDIES, CLAIM_ANY):
        op.execute(statement)
    op.execute(BEAT.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))


def downgrade() -> None:
    op.execute(figures.BEAT.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute("DROP TRIGGER fleet_count_claim ON fleet.attempts")
    for name in ("claim_any", "next_studies", "count_claim"):
        op.execute(f"DROP FUNCTION fleet.{name}")
    op.execute("DROP INDEX fleet.studies_open")
    op.execute("ALTER TABLE fleet.counters DROP COLUMN claimed")
    op.execute("ALTER TABLE fleet.studies DROP COLUMN priority")


# The fence of a study's last claim says which study was served last. The claim's transaction has
# locked the row already, as the trial's state has changed. SECURITY DEFINER: as fleet.count_trial.
COUNT_CLAIM = """
CREATE FUNCTION fleet.count_claim() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fleet.counters c SET claimed = NEW.fence
        FROM public.trials t WHERE t.trial_id = NEW.trial_id AND c.study_id = t.study_id;
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE TRIGGER fleet_count_claim AFTER INSERT ON fleet.attempts
FOR EACH ROW EXECUTE FUNCTION fleet.count_claim()
"""

# The studies that have trials to give, in the order in which a free worker asks them. First comes
# the one with the fewest running trials for its priority; of equals, the one that was served
# longest ago, so that fewer workers than studies take turns.
NEXT_STUDIES = """
CREATE FUNCTION fleet.next_studies(compatible integer, skipped text[]) RETURNS SETOF text
LANGUAGE sql STABLE AS $$
    SELECT s.name FROM fleet.studies s
    LEFT JOIN fleet.counters c
        ON c.study_id = CASE s.stage WHEN 'search' THEN s.search_id ELSE s.final_id END
    WHERE s.stage IN ('search', 'final') AND s.paused_at IS NULL
      AND s.compatibility = compatible AND s.name <> ALL (skipped)
      AND (coalesce(c.waiting, 0) > 0
           OR s.stage = 'search' AND s.stopped IS NULL
               AND coalesce(c.running + c.complete + c.pruned, 0) < s.budget
               AND coalesce(c.failed, 0) <= s.max_failures)
    ORDER BY coalesce(c.running, 0)::float8 / s.priority, coalesce(c.claimed, 0),
        s.priority DESC, s.created_at, s.name
$$
"""

# A trial of whichever study is next. Workers choose one after the other, under a lock that ends
# with the transaction: of many that ask at once, each sees what those before it have taken. Who
# finds nothing has locked nothing. The claim itself is as ever the study's own, so budgets are
# exact whatever the choice.
CLAIM_ANY = """
CREATE FUNCTION fleet.claim_any(
    claim_key uuid, worker_name text, seconds float8, compatible integer, skipped text[],
    OUT study text, OUT expired boolean, OUT fence bigint, OUT trial_id integer,
    OUT number integer, OUT stage text, OUT attempt bigint
) LANGUAGE plpgsql AS $$
DECLARE
    candidate text;
BEGIN
    expired := false;
    -- The claim may have been made, and only its reply was lost.
    SELECT s.name INTO candidate FROM fleet.attempts a
        JOIN public.trials t ON t.trial_id = a.trial_id
        JOIN fleet.studies s ON t.study_id = s.search_id OR t.study_id = s.final_id
        WHERE a.claim_id = claim_key;
    IF FOUND THEN
        study := candidate;
        SELECT c.expired, c.fence, c.trial_id, c.number, c.stage, c.attempt
            INTO expired, fence, trial_id, number, stage, attempt
            FROM fleet.claim(candidate, claim_key, worker_name, seconds) c;
        RETURN;
    END IF;
    -- Lost trials of every study are taken back first: its own claim would ask for it, too.
    SELECT s.name INTO candidate FROM fleet.attempts a
        JOIN public.trials t ON t.trial_id = a.trial_id
        JOIN fleet.studies s ON t.study_id = s.search_id OR t.study_id = s.final_id
        WHERE a.ended_at IS NULL AND a.expires_at < now()
          AND pg_postmaster_start_time() + a.lease < now() LIMIT 1;
    IF FOUND THEN
        study := candidate;
        expired := true;
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM fleet.next_studies(compatible, skipped)) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(7165838, 1);  -- 'mgf' and 1: nobody else's number
    FOR candidate IN SELECT * FROM fleet.next_studies(compatible, skipped) LOOP
        BEGIN
            SELECT c.expired, c.fence, c.trial_id, c.number, c.stage, c.attempt
                INTO expired, fence, trial_id, number, stage, attempt
                FROM fleet.claim(candidate, claim_key, worker_name, seconds) c;
        EXCEPTION WHEN SQLSTATE 'FL003' THEN
            CONTINUE;  -- deleted a moment ago
        END;
        IF fence IS NOT NULL OR expired THEN
            study := candidate;
            RETURN;
        END IF;
    END LOOP;
END $$
"""

# As in 0010; a worker of the fleet goes from study to study.
SEEN = "steps_per_second = excluded.steps_per_second, seen_at = now()"
assert figures.BEAT.count(SEEN) == 1
BEAT = figures.BEAT.replace(SEEN, f"study = excluded.study, {SEEN}")
