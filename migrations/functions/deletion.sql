-- A deleted study takes everything of it along, whoever deletes it: the dashboard, Optuna, or SQL.
-- Less than a study is not deleted.
--
-- The trigger functions run with our rights: whoever may delete a study may delete all of it.

-- Return the tables that have rows of a trial, Optuna's and ours. All of them are guarded.
CREATE FUNCTION fleet.guarded_tables() RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY[
        'public.trials', 'public.trial_params', 'public.trial_values',
        'public.trial_intermediate_values', 'public.trial_user_attributes',
        'public.trial_system_attributes', 'fleet.metrics', 'fleet.checkpoints'
    ];
$$;

-- Return whether this transaction says this for the first time. A savepoint that is rolled back takes
-- back what was said after it.
CREATE FUNCTION fleet.is_new(word text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    said text := coalesce(current_setting('fleet.said', true), '');
BEGIN
    IF strpos(said, ' ' || word || ' ') > 0 THEN
        RETURN false;
    END IF;
    PERFORM set_config('fleet.said', said || ' ' || word || ' ', true);
    RETURN true;
END $$;

-- Return whether the deletion of this row of a trial is to be looked at again at the commit: it may
-- not go alone, and is the first such row of its study in this transaction.
CREATE FUNCTION fleet.is_dubious(subject integer, finished_too boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    study integer;
BEGIN
    SELECT t.study_id INTO study FROM public.trials t WHERE t.trial_id = subject;
    IF NOT FOUND OR strpos(coalesce(current_setting('fleet.said', true), ''),
                           ' rows:' || study || ' ') > 0 THEN
        RETURN false;  -- the trial has gone, or a row of the study is looked at already
    END IF;
    RETURN fleet.refusal(subject, finished_too) IS NOT NULL AND fleet.is_new('rows:' || study);
END $$;

-- Refuse a deletion that isn't part of a whole study's.
--
-- This runs at the commit, once for each study: rows that may not go alone have gone with their trial,
-- and the trial with its study, or all of it is undone. So Optuna and its dashboard may delete a study
-- row by row, in any order, and nobody deletes less. One row stands for all of its study's: as long as
-- the study is there, one trial that has gone or one row that has gone is refused.
CREATE FUNCTION fleet.guard_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'trials' THEN
        IF EXISTS (SELECT 1 FROM fleet.studies WHERE OLD.study_id IN (search_id, final_id))
            OR EXISTS (SELECT 1 FROM fleet.former_finals WHERE final_id = OLD.study_id) THEN
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
    -- fleet.delete_trials takes whole trials: that they go is looked at, and not each of their rows.
    looked_at constant text := 'current_setting(''fleet.deleting'', true) IS DISTINCT FROM ''on''';
BEGIN
    FOREACH guarded IN ARRAY fleet.guarded_tables() LOOP
        -- The condition is looked at when the row goes, the function runs at the commit. All
        -- deletions of trials are looked at, because numbers have no gap. A checkpoint is no
        -- result: it may go when its trial has ended.
        EXECUTE format(
            'CREATE CONSTRAINT TRIGGER fleet_guard_delete AFTER DELETE ON %s '
            'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (%s) '
            'EXECUTE FUNCTION fleet.guard_delete()',
            guarded,
            CASE guarded WHEN 'public.trials' THEN 'fleet.is_new(''trials:'' || OLD.study_id)'
                ELSE format('%s AND fleet.is_dubious(OLD.trial_id, %s)', looked_at,
                            CASE guarded WHEN 'fleet.checkpoints' THEN 'false' ELSE 'true' END) END);
    END LOOP;
END $$;

-- Lock what workers could still write to of an Optuna study whose own row is locked: then nobody
-- begins, reports or ends a trial of it. Trials come first, and as NO KEY: who ends a trial locks it
-- before its attempt, who reports locks the attempt and then the trial's key.
CREATE FUNCTION fleet.seize(study integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM public.trials t WHERE t.study_id = study AND t.state IN ('RUNNING', 'WAITING')
        ORDER BY t.trial_id FOR NO KEY UPDATE;
    PERFORM FROM fleet.attempts a JOIN public.trials t ON t.trial_id = a.trial_id
        WHERE t.study_id = study AND a.ended_at IS NULL ORDER BY a.fence FOR UPDATE OF a;
END $$;

-- Delete what Optuna's other tables have of these trials. What lies in ours goes by its foreign keys.
CREATE FUNCTION fleet.delete_rows(going integer[]) RETURNS void LANGUAGE sql AS $$
    DELETE FROM public.trial_params WHERE trial_id = ANY(going);
    DELETE FROM public.trial_values WHERE trial_id = ANY(going);
    DELETE FROM public.trial_intermediate_values WHERE trial_id = ANY(going);
    DELETE FROM public.trial_user_attributes WHERE trial_id = ANY(going);
    DELETE FROM public.trial_system_attributes WHERE trial_id = ANY(going);
    DELETE FROM public.trial_heartbeats WHERE trial_id = ANY(going);
$$;

-- Delete up to so many trials of an Optuna study whose own row is locked, with all their rows; how
-- many have gone. Nobody writes to a trial that has ended; the others are to be seized before.
CREATE FUNCTION fleet.delete_trials(study integer, most integer, ended_only boolean DEFAULT true)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    going integer[];
BEGIN
    SELECT array_agg(t.trial_id) INTO going FROM (
        SELECT trial_id FROM public.trials
        WHERE study_id = study
          AND (NOT ended_only OR state IN ('COMPLETE', 'PRUNED', 'FAIL'))
        ORDER BY trial_id LIMIT most FOR UPDATE
    ) t;
    IF going IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM set_config('fleet.deleting', 'on', true);
    PERFORM fleet.delete_rows(going);
    DELETE FROM public.trials WHERE trial_id = ANY(going);
    PERFORM set_config('fleet.deleting', '', true);
    RETURN cardinality(going);
END $$;

-- Delete the rows of a trial that goes by another way. Its row is locked by then, so this also sees
-- what workers have written since Optuna made its list of what to delete: its deletion would fail, and
-- it does not say so.
CREATE FUNCTION fleet.delete_trial_rows() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.delete_rows(ARRAY[OLD.trial_id]);
    RETURN OLD;
END $$;
CREATE TRIGGER fleet_delete_rows BEFORE DELETE ON public.trials
    FOR EACH ROW WHEN (current_setting('fleet.deleting', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION fleet.delete_trial_rows();

-- Delete the rows of an Optuna study that goes, with a trial that a worker has just started.
CREATE FUNCTION fleet.delete_study_rows() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.seize(OLD.study_id);
    WHILE fleet.delete_trials(OLD.study_id, 4000, false) > 0 LOOP END LOOP;
    DELETE FROM public.study_directions WHERE study_id = OLD.study_id;
    DELETE FROM public.study_user_attributes WHERE study_id = OLD.study_id;
    DELETE FROM public.study_system_attributes WHERE study_id = OLD.study_id;
    RETURN OLD;
END $$;
CREATE TRIGGER fleet_delete_rows BEFORE DELETE ON public.studies
    FOR EACH ROW EXECUTE FUNCTION fleet.delete_study_rows();

-- Delete what belongs to a study of ours that goes: its final stages, whoever deletes the search's half
-- of it, its workers, and its artifacts in the database. A coordinator sweeps other stores.
CREATE FUNCTION fleet.forget_study() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM public.studies WHERE study_id = OLD.final_id OR study_id IN (
        SELECT final_id FROM fleet.former_finals WHERE search_id = OLD.search_id
    );
    DELETE FROM fleet.workers WHERE study = OLD.name;
    DELETE FROM fleet.blobs WHERE blob_id IN (
        SELECT artifact FROM fleet.artifacts
        WHERE search_id = OLD.search_id AND store = 'database'
    );
    RETURN NULL;
END $$;
CREATE TRIGGER fleet_forget_study AFTER DELETE ON fleet.studies
    FOR EACH ROW EXECUTE FUNCTION fleet.forget_study();

-- Begin a final stage again that was deleted under way; one that is over has left its result.
CREATE FUNCTION fleet.begin_final_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.stage := 'search';
    RETURN NEW;
END $$;
CREATE TRIGGER fleet_begin_final_anew BEFORE UPDATE OF final_id ON fleet.studies
    FOR EACH ROW WHEN (OLD.final_id IS NOT NULL AND NEW.final_id IS NULL AND NEW.stage = 'final')
    EXECUTE FUNCTION fleet.begin_final_anew();
