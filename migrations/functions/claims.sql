-- Claiming a trial: who gets which, and that the budget is exact.

-- Forget what an attempt that starts at a checkpoint may not keep: reports past it would mix with its
-- own, and nobody would judge it again on rungs past it.
CREATE FUNCTION fleet.forget_reports(subject integer, after bigint, completed integer) RETURNS void
LANGUAGE sql AS $$
    DELETE FROM public.trial_intermediate_values i WHERE i.trial_id = subject AND i.step > after;
    DELETE FROM fleet.metrics m WHERE m.trial_id = subject AND m.step > after;
    DELETE FROM public.trial_system_attributes a
        WHERE a.trial_id = subject
          AND substring(a.key FROM '^completed_rung_([0-9]+)$')::integer >= completed;
$$;

-- Claim a trial of one study, and open an attempt at it, in one transaction.
--
-- Lock the study's row as Optuna does, take the lowest WAITING trial, else insert a RUNNING one while
-- fewer than the budget count or are under way. The study is read again once it is locked, because who
-- steers it holds the same lock. Who finds nothing to claim has locked nothing. The key is the
-- worker's, so a claim whose reply was lost is repeated safely. expired asks the caller to take lost
-- trials back and to claim again: they come before new ones.
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

    PERFORM fleet.steer();  -- until the attempt is there
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
END $$;

-- Return the studies that have trials to give, in the order in which a free worker asks them. First
-- comes the one with the fewest running trials for its priority; of equals, the one that was served
-- longest ago, so that fewer workers than studies take turns.
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
$$;

-- Claim a trial of whichever study is next.
--
-- Workers choose one after the other, under a lock that ends with the transaction: of many that ask at
-- once, each sees what those before it have taken. The claim itself is the study's own, so budgets are
-- exact whatever the choice.
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
END $$;
