-- Who may write what to a trial.
--
-- A worker's transaction carries the fence of its lease in the setting fleet.fence. These triggers
-- stand on Optuna's tables of trials and on ours, so that Optuna's own writes obey the fence, too.
--
-- SQLSTATEs: FL001, the trial is leased under another fence; FL002, the trial has finished, and
-- finished is final; FL003, the study was deleted; FL004, somebody writes without a lease who does
-- not steer. Locks are taken in the order study, trial, attempt, counters.

-- Begin to steer: this transaction is one of ours that adds trials, takes them back, ends them or
-- renames studies without a lease. Everybody else without a lease is a stranger, such as stock Optuna
-- or its dashboard.
CREATE FUNCTION fleet.steer() RETURNS void LANGUAGE sql AS $$
    SELECT set_config('fleet.steering', 'on', true);
$$;

CREATE FUNCTION fleet.is_stranger() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(current_setting('fleet.fence', true), '') = ''
        AND coalesce(current_setting('fleet.steering', true), '') <> 'on';
$$;

-- Return the name of the study of ours that an Optuna study belongs to, as its search, its final
-- stage, or a former one; NULL for stock Optuna's own.
CREATE FUNCTION fleet.owner(optuna_study integer) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT s.name FROM fleet.studies s WHERE s.search_id = optuna_study
    UNION ALL
    SELECT s.name FROM fleet.studies s WHERE s.final_id = optuna_study
    UNION ALL
    SELECT s.name FROM fleet.former_finals f JOIN fleet.studies s USING (search_id)
    WHERE f.final_id = optuna_study
    LIMIT 1;
$$;

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
    standing public.trialstate;
    owner text;
BEGIN
    SELECT fence INTO lease FROM fleet.attempts WHERE trial_id = subject AND ended_at IS NULL;
    IF lease = held THEN
        SELECT fence INTO lease FROM fleet.attempts
            WHERE trial_id = subject AND ended_at IS NULL FOR SHARE;
    END IF;
    IF lease IS DISTINCT FROM held THEN
        RETURN 'FL001';
    END IF;
    SELECT t.state, fleet.owner(t.study_id) INTO standing, owner
        FROM public.trials t WHERE t.trial_id = subject;
    IF owner IS NULL THEN
        RETURN NULL;
    ELSIF standing IN ('COMPLETE', 'PRUNED', 'FAIL') THEN
        RETURN CASE WHEN finished_too THEN 'FL002' END;
    ELSIF fleet.is_stranger() THEN
        RETURN 'FL004';
    END IF;
    RETURN NULL;
END $$;

-- Refuse an insert or update that the transaction may not make.
CREATE FUNCTION fleet.guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    refusal text;
BEGIN
    refusal := fleet.refusal(NEW.trial_id, true);
    IF refusal = 'FL001' THEN
        RAISE EXCEPTION 'trial % is not leased under fence %', NEW.trial_id,
            coalesce(nullif(current_setting('fleet.fence', true), ''), 'none')
            USING ERRCODE = 'FL001';
    ELSIF refusal = 'FL002' THEN
        RAISE EXCEPTION 'trial % is finished, and finished is final', NEW.trial_id
            USING ERRCODE = 'FL002';
    ELSIF refusal = 'FL004' AND NOT fleet.is_being_enqueued(NEW.trial_id) THEN
        RAISE EXCEPTION 'trial % belongs to Trialfleet, whose workers alone run it', NEW.trial_id
            USING ERRCODE = 'FL004';
    END IF;
    RETURN NEW;
END $$;

-- Whether a stranger adds the trial in this transaction. What it may become is asked at the commit,
-- because Optuna inserts every trial as RUNNING and sets its state last.
CREATE FUNCTION fleet.is_being_enqueued(subject integer) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM public.trials t
        WHERE t.trial_id = subject AND t.xmin = pg_current_xact_id()::xid
    );
$$;

-- Refuse a trial that a stranger has added, but for one that waits in a search that has room, as
-- Optuna's enqueue_trial adds it. The study's lock keeps the budget exact.
CREATE FUNCTION fleet.admit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    study fleet.studies%ROWTYPE;
    kept fleet.counters%ROWTYPE;
BEGIN
    PERFORM FROM public.studies s WHERE s.study_id = NEW.study_id FOR UPDATE;
    SELECT * INTO study FROM fleet.studies s WHERE s.search_id = NEW.study_id;
    IF NOT FOUND OR EXISTS (
        SELECT FROM public.trials t WHERE t.trial_id = NEW.trial_id AND t.state <> 'WAITING'
    ) THEN
        RAISE EXCEPTION 'study % belongs to Trialfleet, whose workers alone run its trials',
            NEW.study_id USING ERRCODE = 'FL004',
            HINT = 'Add trials with `trialfleet enqueue`, `trialfleet import` or enqueue_trial.';
    ELSIF study.stage <> 'search' OR study.stopped IS NOT NULL THEN
        RAISE EXCEPTION 'the search of study % is over', study.name USING ERRCODE = 'FL004',
            HINT = 'Go on with it by `trialfleet extend`.';
    END IF;
    -- The trial itself is counted by now.
    SELECT * INTO kept FROM fleet.counters c WHERE c.study_id = NEW.study_id;
    IF kept.waiting + kept.running + kept.complete + kept.pruned > study.budget THEN
        RAISE EXCEPTION 'all % trials of study % are trained, under way or enqueued',
            study.budget, study.name USING ERRCODE = 'FL004',
            HINT = 'Make room by `trialfleet extend`.';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fleet_admit AFTER INSERT ON public.trials
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (fleet.is_stranger() AND fleet.owner(NEW.study_id) IS NOT NULL)
    EXECUTE FUNCTION fleet.admit();

-- Refuse another name for a study of ours, which is the one in its study file.
CREATE FUNCTION fleet.keep_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'study % belongs to Trialfleet and keeps its name', OLD.study_name
        USING ERRCODE = 'FL004';
END $$;
CREATE TRIGGER fleet_keep_name BEFORE UPDATE OF study_name ON public.studies
    FOR EACH ROW WHEN (
        OLD.study_name <> NEW.study_name AND fleet.is_stranger()
        AND fleet.owner(OLD.study_id) IS NOT NULL
    ) EXECUTE FUNCTION fleet.keep_name();

-- Refuse a copy of a study of ours within its database. optuna-dashboard renames a study by copying
-- what Optuna knows of it and deleting the study: the copy would be without its final stage, its
-- workers and all that we know of it.
CREATE FUNCTION fleet.refuse_copy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM fleet.studies s WHERE to_json(s.digest)::text = NEW.value_json) THEN
        RAISE EXCEPTION 'a study of Trialfleet is not copied or renamed within its database'
            USING ERRCODE = 'FL004';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fleet_refuse_copy BEFORE INSERT OR UPDATE ON public.study_user_attributes
    FOR EACH ROW WHEN (
        NEW.key = 'digest' AND fleet.is_stranger() AND fleet.owner(NEW.study_id) IS NULL
    ) EXECUTE FUNCTION fleet.refuse_copy();

DO $$
DECLARE
    guarded text;
    -- fleet.report has locked the trial's lease itself, and knows that the trial runs: the rows of
    -- that one statement pass without another look each.
    looked_at constant text :=
        'current_setting(''fleet.reporting'', true) IS DISTINCT FROM NEW.trial_id::text';
BEGIN
    FOREACH guarded IN ARRAY fleet.guarded_tables() LOOP
        EXECUTE format(
            'CREATE TRIGGER fleet_guard BEFORE INSERT OR UPDATE ON %s FOR EACH ROW %s '
            'EXECUTE FUNCTION fleet.guard()', guarded,
            CASE WHEN guarded IN ('fleet.metrics', 'public.trial_intermediate_values')
                THEN 'WHEN (' || looked_at || ')' ELSE '' END);
    END LOOP;
END $$;
