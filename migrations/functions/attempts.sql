-- An attempt under its lease: its reports, its end, its heartbeat, each in one round trip.

-- Raise why the lease with this fence is gone.
CREATE FUNCTION fleet.refuse(held bigint, subject integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    how text;
BEGIN
    SELECT a.outcome INTO how FROM fleet.attempts a WHERE a.fence = held;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the study of trial % was deleted', subject USING ERRCODE = 'FL003';
    END IF;
    RAISE EXCEPTION 'trial % was % under fence %', subject, how, held USING ERRCODE = 'FL001';
END $$;

-- Store the reports of an attempt, and extend its lease.
--
-- stored is the last step that is stored of this attempt. A report commits without waiting for the
-- disk, and its worker keeps it; one that a crash of the server lost leaves stored behind sent, and is
-- then sent again, before anything else is written. The attempt's row is locked to the commit, so that
-- nobody ends it or the trial before, and the guard has nothing to add.
CREATE FUNCTION fleet.report(
    held bigint, subject integer, sent bigint, steps bigint[], returns float8[],
    metric_steps bigint[], metric_names text[], metric_values text[],
    OUT stored bigint, OUT finished bigint
) LANGUAGE plpgsql AS $$
DECLARE
    standing public.trialstate;
BEGIN
    PERFORM set_config('fleet.fence', held::text, true),
        set_config('synchronous_commit', 'off', true);
    -- `stored` is what it was before, if a crash of the server has lost a report.
    UPDATE fleet.attempts a SET expires_at = now() + a.lease,
            step = CASE WHEN a.step < sent THEN a.step ELSE steps[array_upper(steps, 1)] END
        WHERE a.fence = held AND a.trial_id = subject AND a.ended_at IS NULL
        RETURNING a.step INTO stored;
    IF NOT FOUND THEN
        PERFORM fleet.refuse(held, subject);
    END IF;
    SELECT c.finished, t.state INTO finished, standing FROM public.trials t
        JOIN fleet.counters c ON c.study_id = t.study_id WHERE t.trial_id = subject;
    IF standing <> 'RUNNING' THEN
        RAISE EXCEPTION 'trial % is %, not RUNNING', subject, standing USING ERRCODE = 'FL002';
    END IF;
    IF stored < sent THEN
        RETURN;
    END IF;
    PERFORM set_config('fleet.reporting', subject::text, true);
    INSERT INTO public.trial_intermediate_values
        (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT subject, r.step, r.value, 'FINITE' FROM unnest(steps, returns) AS r (step, value)
    ON CONFLICT (trial_id, step) DO UPDATE
        SET intermediate_value = excluded.intermediate_value,
            intermediate_value_type = excluded.intermediate_value_type;
    INSERT INTO fleet.metrics (trial_id, step, name, values)
    SELECT subject, m.step, m.name, m.text::float8[]
    FROM unnest(metric_steps, metric_names, metric_values) AS m (step, name, text)
    ON CONFLICT (trial_id, name, step) DO UPDATE SET values = excluded.values;
    PERFORM set_config('fleet.reporting', '', true);
END $$;

-- Finish a trial and its attempt: values, attributes, state. Return false where reports that a crash
-- has lost must be sent first; then nothing was written.
CREATE FUNCTION fleet.finish(
    held bigint, subject integer, sent bigint, ending public.trialstate, scores float8[],
    user_keys text[], user_values text[], system_keys text[], system_values text[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    attempt fleet.attempts%ROWTYPE;
BEGIN
    PERFORM set_config('fleet.fence', held::text, true);
    -- NO KEY: a report's foreign-key check need not wait for us.
    PERFORM FROM public.trials t WHERE t.trial_id = subject FOR NO KEY UPDATE;
    SELECT * INTO attempt FROM fleet.attempts a WHERE a.fence = held FOR UPDATE;
    IF attempt.outcome = 'finished' THEN
        RETURN true;
    END IF;
    IF attempt.fence IS NULL OR attempt.outcome IS NOT NULL THEN
        PERFORM fleet.refuse(held, subject);
    END IF;
    IF attempt.step < sent THEN
        RETURN false;
    END IF;
    INSERT INTO public.trial_values (trial_id, objective, value, value_type)
    SELECT subject, s.place - 1, s.score, 'FINITE'
    FROM unnest(scores) WITH ORDINALITY AS s (score, place)
    ON CONFLICT (trial_id, objective) DO UPDATE
        SET value = excluded.value, value_type = excluded.value_type;
    INSERT INTO public.trial_user_attributes (trial_id, key, value_json)
    SELECT subject, a.key, a.value FROM unnest(user_keys, user_values) AS a (key, value)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json;
    INSERT INTO public.trial_system_attributes (trial_id, key, value_json)
    SELECT subject, a.key, a.value FROM unnest(system_keys, system_values) AS a (key, value)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json;
    -- The state comes last: nothing can be written after it.
    UPDATE public.trials t SET state = ending, datetime_complete = now() AT TIME ZONE 'utc'
        WHERE t.trial_id = subject;
    UPDATE fleet.attempts a SET ended_at = now(), outcome = 'finished' WHERE a.fence = held;
    RETURN true;
END $$;

-- Extend the lease, if the worker has one; record that the worker is alive and what it has measured.
-- crowded says that the server is running out of connections: more than three quarters of those that
-- are not kept for superusers are taken.
CREATE FUNCTION fleet.beat(
    held bigint, me text, study_name text, host_name text, process integer, version_text text,
    trial integer, at_step bigint, pace float8,
    waits bigint[] DEFAULT '{}', waited float8 DEFAULT 0, errors bigint DEFAULT 0,
    OUT extended boolean, OUT deleted boolean, OUT crowded boolean
) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fleet.attempts a SET expires_at = now() + a.lease
        WHERE a.fence = held AND a.ended_at IS NULL;
    extended := FOUND;
    deleted := held IS NOT NULL AND NOT extended
        AND NOT EXISTS (SELECT FROM fleet.attempts a WHERE a.fence = held);
    BEGIN
        -- A lease is not to be lost by waiting for a row that is only for people who watch.
        PERFORM set_config('lock_timeout', '100', true);
        INSERT INTO fleet.workers AS w
            (worker, study, host, pid, version, trial_number, step, steps_per_second,
            claims, claim_seconds, database_errors)
        VALUES (me, study_name, host_name, process, version_text, trial, at_step, pace, waits,
            waited, errors)
        ON CONFLICT (worker) DO UPDATE SET
            trial_number = excluded.trial_number, step = excluded.step,
            study = excluded.study, steps_per_second = excluded.steps_per_second, seen_at = now(),
            claims = excluded.claims, claim_seconds = excluded.claim_seconds,
            database_errors = excluded.database_errors;
    EXCEPTION WHEN lock_not_available THEN
        NULL;  -- the next beat tells it
    END;
    SELECT sum(d.numbackends) > 0.75 * (
            current_setting('max_connections')::integer
            - current_setting('superuser_reserved_connections')::integer
            - coalesce(current_setting('reserved_connections', true)::integer, 0))
        INTO crowded FROM pg_stat_database d;
END $$;
