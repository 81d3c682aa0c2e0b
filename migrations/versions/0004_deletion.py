"""A finished trial's rows stay as long as its study; a deleted study takes everything along."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Everything that belongs to a trial, Optuna's tables and ours.
GUARDED = (
    "public.trials",
    "public.trial_params",
    "public.trial_values",
    "public.trial_intermediate_values",
    "public.trial_user_attributes",
    "public.trial_system_attributes",
    "fleet.metrics",
    "fleet.checkpoints",
)
# Which deletions of a row have to be part of the whole study's.
CONDITION = "WHEN (fleet.refusal(OLD.trial_id, true) IS NOT NULL) "
CONDITIONS = {
    "public.trials": "",  # all: numbers have no gap
    # A checkpoint is no result: it goes when its trial has ended.
    "fleet.checkpoints": "WHEN (fleet.refusal(OLD.trial_id) IS NOT NULL) ",
}


def upgrade() -> None:
    for statement in FUNCTIONS:
        op.execute(statement)
    for table in GUARDED:
        op.execute(f"DROP TRIGGER fleet_guard ON {table}")
        op.execute(
            f"CREATE TRIGGER fleet_guard BEFORE INSERT OR UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION fleet.guard()"
        )
        # The condition is looked at when the row goes, the function runs at the commit.
        op.execute(
            f"CREATE CONSTRAINT TRIGGER fleet_guard_delete AFTER DELETE ON {table} "
            f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW {CONDITIONS.get(table, CONDITION)}"
            "EXECUTE FUNCTION fleet.guard_delete()"
        )
    for trigger in TRIGGERS:
        op.execute(trigger)


def downgrade() -> None:
    op.execute("DROP TRIGGER fleet_delete_rows ON public.trials")
    op.execute("DROP TRIGGER fleet_delete_rows ON public.studies")
    op.execute("DROP TRIGGER fleet_forget_study ON fleet.studies")
    op.execute("DROP TRIGGER fleet_begin_final_anew ON fleet.studies")
    for table in GUARDED:
        op.execute(f"DROP TRIGGER fleet_guard_delete ON {table}")
        op.execute(f"DROP TRIGGER fleet_guard ON {table}")
    op.execute(GUARD_BEFORE)
    for table in GUARDED:
        op.execute(
            f"CREATE TRIGGER fleet_guard BEFORE INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION fleet.guard()"
        )
    for function in (
        "guard_delete()",
        "delete_trial_rows()",
        "delete_study_rows()",
        "forget_study()",
        "begin_final_anew()",
        "refusal(integer, boolean)",
    ):
        op.execute(f"DROP FUNCTION fleet.{function}")


# Why a transaction may not write to a trial: FL001, it is leased under another fence; FL002, it has
# finished. Its own lease is locked FOR SHARE, so that a write under way and the loss of the lease
# happen one after the other: without the lock, a write that began before the loss could commit
# after it. What is finished is final in our studies; stock Optuna's own are its own affair.
REFUSAL = """
CREATE FUNCTION fleet.refusal(subject integer, finished_too boolean DEFAULT false)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    held bigint := nullif(current_setting('fleet.fence', true), '')::bigint;
    lease bigint;
BEGIN
    SELECT fence INTO lease FROM fleet.attempts WHERE trial_id = subject AND ended_at IS NULL;
    IF lease = held THEN
        SELECT fence INTO lease FROM fleet.attempts
            WHERE trial_id = subject AND ended_at IS NULL FOR SHARE;
    END IF;
    IF lease IS DISTINCT FROM held THEN
        RETURN 'FL001';
    END IF;
    IF finished_too AND EXISTS (
        SELECT 1 FROM public.trials t JOIN fleet.studies s
            ON t.study_id = s.search_id OR t.study_id = s.final_id
        WHERE t.trial_id = subject AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
    ) THEN
        RETURN 'FL002';
    END IF;
    RETURN NULL;
END $$
"""

# A worker's transaction carries the fence of its lease in the setting `fleet.fence`.
GUARD = """
CREATE OR REPLACE FUNCTION fleet.guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    refusal text := fleet.refusal(NEW.trial_id, true);
BEGIN
    IF refusal = 'FL001' THEN
        RAISE EXCEPTION 'trial % is not leased under fence %', NEW.trial_id,
            coalesce(nullif(current_setting('fleet.fence', true), ''), 'none')
            USING ERRCODE = 'FL001';
    ELSIF refusal = 'FL002' THEN
        RAISE EXCEPTION 'trial % is finished, and finished is final', NEW.trial_id
            USING ERRCODE = 'FL002';
    END IF;
    RETURN NEW;
END $$
"""

# At the commit: rows that may not go alone have gone with their trial, and the trial with its
# study, or all of it is undone. So Optuna and its dashboard delete a study row by row, in any
# order, and nobody deletes less.
GUARD_DELETE = """
CREATE FUNCTION fleet.guard_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'trials' THEN
        IF EXISTS (SELECT 1 FROM fleet.studies WHERE OLD.study_id IN (search_id, final_id)) THEN
            RAISE EXCEPTION 'trial % goes only with its study', OLD.trial_id
                USING ERRCODE = coalesce(fleet.refusal(OLD.trial_id), 'FL002');
        END IF;
    ELSIF EXISTS (SELECT 1 FROM public.trials WHERE trial_id = OLD.trial_id) THEN
        RAISE EXCEPTION 'rows of trial % go only with its study', OLD.trial_id
            USING ERRCODE = coalesce(fleet.refusal(OLD.trial_id), 'FL002');
    END IF;
    RETURN NULL;
END $$
"""

# Both run once the row itself is locked, so they also see what workers have written, and the trial
# that one has started, since Optuna made its list of what to delete: its deletion would fail, and
# it does not tell. With our rights: whoever may delete a study may delete all of it.
DELETE_TRIAL_ROWS = """
CREATE FUNCTION fleet.delete_trial_rows() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM public.trial_params WHERE trial_id = OLD.trial_id;
    DELETE FROM public.trial_values WHERE trial_id = OLD.trial_id;
    DELETE FROM public.trial_intermediate_values WHERE trial_id = OLD.trial_id;
    DELETE FROM public.trial_user_attributes WHERE trial_id = OLD.trial_id;
    DELETE FROM public.trial_system_attributes WHERE trial_id = OLD.trial_id;
    DELETE FROM public.trial_heartbeats WHERE trial_id = OLD.trial_id;
    RETURN OLD;
END $$
"""
DELETE_STUDY_ROWS = """
CREATE FUNCTION fleet.delete_study_rows() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM public.trials WHERE study_id = OLD.study_id;
    DELETE FROM public.study_directions WHERE study_id = OLD.study_id;
    DELETE FROM public.study_user_attributes WHERE study_id = OLD.study_id;
    DELETE FROM public.study_system_attributes WHERE study_id = OLD.study_id;
    RETURN OLD;
END $$
"""

# The final stage belongs to the study, whoever deletes the search's half of it.
FORGET_STUDY = """
CREATE FUNCTION fleet.forget_study() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM public.studies WHERE study_id = OLD.final_id;
    DELETE FROM fleet.workers WHERE study = OLD.name;
    RETURN NULL;
END $$
"""

# A final stage that was deleted under way is begun again; one that is over has left its result.
BEGIN_FINAL_ANEW = """
CREATE FUNCTION fleet.begin_final_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.stage := 'search';
    RETURN NEW;
END $$
"""

FUNCTIONS = (
    REFUSAL,
    GUARD,
    GUARD_DELETE,
    DELETE_TRIAL_ROWS,
    DELETE_STUDY_ROWS,
    FORGET_STUDY,
    BEGIN_FINAL_ANEW,
)
TRIGGERS = (
    "CREATE TRIGGER fleet_delete_rows BEFORE DELETE ON public.trials "
    "FOR EACH ROW EXECUTE FUNCTION fleet.delete_trial_rows()",
    "CREATE TRIGGER fleet_delete_rows BEFORE DELETE ON public.studies "
    "FOR EACH ROW EXECUTE FUNCTION fleet.delete_study_rows()",
    "CREATE TRIGGER fleet_forget_study AFTER DELETE ON fleet.studies "
    "FOR EACH ROW EXECUTE FUNCTION fleet.forget_study()",
    "CREATE TRIGGER fleet_begin_final_anew BEFORE UPDATE OF final_id ON fleet.studies "
    "FOR EACH ROW WHEN (OLD.final_id IS NOT NULL AND NEW.final_id IS NULL "
    "AND NEW.stage = 'final') EXECUTE FUNCTION fleet.begin_final_anew()",
)

# As 0001 made it.
GUARD_BEFORE = """
CREATE OR REPLACE FUNCTION fleet.guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    subject integer := CASE TG_OP WHEN 'DELETE' THEN OLD.trial_id ELSE NEW.trial_id END;
    held bigint := nullif(current_setting('fleet.fence', true), '')::bigint;
    lease bigint;
    finished boolean;
BEGIN
    SELECT fence INTO lease FROM fleet.attempts
        WHERE trial_id = subject AND ended_at IS NULL FOR SHARE;
    IF lease IS DISTINCT FROM held THEN
        RAISE EXCEPTION 'trial % is leased under fence %, not %', subject,
            coalesce(lease::text, 'none'), coalesce(held::text, 'none')
            USING ERRCODE = 'FL001';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF TG_TABLE_NAME = 'trials' THEN
        finished := TG_OP = 'UPDATE' AND OLD.state IN ('COMPLETE', 'PRUNED', 'FAIL');
    ELSE
        SELECT state IN ('COMPLETE', 'PRUNED', 'FAIL') INTO finished
            FROM public.trials WHERE trial_id = subject;
    END IF;
    IF finished THEN
        RAISE EXCEPTION 'trial % is finished, and finished is final', subject
            USING ERRCODE = 'FL002';
    END IF;
    RETURN NEW;
END $$
"""
