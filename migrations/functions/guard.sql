-- Who may write what to a trial.
--
-- A worker's transaction carries the fence of its lease in the setting fleet.fence. These triggers
-- stand on Optuna's tables of trials and on ours, so that Optuna's own writes obey the fence, too.
--
-- SQLSTATEs: FL001, the trial is leased under another fence; FL002, the trial has finished, and
-- finished is final; FL003, the study was deleted. Locks are taken in the order study, trial,
-- attempt, counters.

-- Return why this transaction may not write to a trial, as a SQLSTATE, or NULL if it may.
--
-- Its own lease is locked FOR SHARE, so that a write under way and the loss of the lease happen one
-- after the other: without the lock, a write that began before the loss could commit after it. What
-- is finished is final in our studies, former final stages included; stock Optuna's own are its own
-- affair.
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
    UNION ALL
        SELECT 1 FROM public.trials t JOIN fleet.former_finals f ON t.study_id = f.final_id
        WHERE t.trial_id = subject AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
    ) THEN
        RETURN 'FL002';
    END IF;
    RETURN NULL;
END $$;

-- Refuse an insert or update that the transaction may not make.
CREATE FUNCTION fleet.guard() RETURNS trigger LANGUAGE plpgsql AS $$
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
END $$;

-- Refuse a deletion that isn't part of a whole study's.
--
-- This runs at the commit: rows that may not go alone have gone with their trial, and the trial with
-- its study, or all of it is undone. So Optuna and its dashboard may delete a study row by row, in
-- any order, and nobody deletes less.
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
END $$;

DO $$
DECLARE
    guarded text;
    -- fleet.report has locked the trial's lease itself, and knows that the trial runs: the rows of
    -- that one statement pass without another look each.
    looked_at constant text :=
        'current_setting(''fleet.reporting'', true) IS DISTINCT FROM NEW.trial_id::text';
BEGIN
    FOREACH guarded IN ARRAY ARRAY[
        'public.trials', 'public.trial_params', 'public.trial_values',
        'public.trial_intermediate_values', 'public.trial_user_attributes',
        'public.trial_system_attributes', 'fleet.metrics', 'fleet.checkpoints'
    ] LOOP
        EXECUTE format(
            'CREATE TRIGGER fleet_guard BEFORE INSERT OR UPDATE ON %s FOR EACH ROW %s '
            'EXECUTE FUNCTION fleet.guard()', guarded,
            CASE WHEN guarded IN ('fleet.metrics', 'public.trial_intermediate_values')
                THEN 'WHEN (' || looked_at || ')' ELSE '' END);
        -- The condition is looked at when the row goes, the function runs at the commit. All
        -- deletions of trials are looked at, because numbers have no gap. A checkpoint is no
        -- result: it may go when its trial has ended.
        EXECUTE format(
            'CREATE CONSTRAINT TRIGGER fleet_guard_delete AFTER DELETE ON %s '
            'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW %s EXECUTE FUNCTION fleet.guard_delete()',
            guarded,
            CASE guarded WHEN 'public.trials' THEN ''
                WHEN 'fleet.checkpoints' THEN 'WHEN (fleet.refusal(OLD.trial_id) IS NOT NULL)'
                ELSE 'WHEN (fleet.refusal(OLD.trial_id, true) IS NOT NULL)' END);
    END LOOP;
END $$;
