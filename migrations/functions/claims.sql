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

-- Return Optuna's study that the trials of a study are claimed from.
CREATE FUNCTION fleet.claimed_from(study fleet.studies) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE study.stage WHEN 'search' THEN study.search_id ELSE study.final_id END;
$$;

-- Return whether a search has room for another trial. A final stage begins none: its trials wait from
-- its beginning on.
CREATE FUNCTION fleet.may_begin(study fleet.studies, kept fleet.counters) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT study.stage = 'search' AND study.stopped IS NULL
        AND coalesce(kept.failed, 0) <= study.max_failures
        AND coalesce(kept.waiting + kept.running + kept.complete + kept.pruned, 0) < study.budget;
$$;

-- Return whether a study has a trial to give: one that waits, or another one. What is claimable is said
-- here and nowhere else.
CREATE FUNCTION fleet.may_claim(study fleet.studies, kept fleet.counters) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT study.stage IN ('search', 'final') AND study.paused_at IS NULL
        AND (coalesce(kept.waiting, 0) > 0 OR fleet.may_begin(study, kept));
$$;

-- Return whether a trial of these was lost and can be taken back: nobody has its row, or its attempt's,
-- locked at this moment. After a restart of PostgreSQL everybody gets one lease's time to come back.
--
-- The look is undone, so nothing stays locked. SKIP LOCKED keeps the lock of a trial whose attempt it
-- then finds locked, and a claim goes on to wait for the study, which comes first in the order of locks.
CREATE FUNCTION fleet.has_lost(optuna_studies integer[]) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    lost boolean;
BEGIN
    IF NOT EXISTS (
        SELECT FROM fleet.attempts a WHERE a.ended_at IS NULL AND a.expires_at < now()
    ) THEN
        RETURN false;
    END IF;
    BEGIN
        PERFORM FROM fleet.attempts a JOIN public.trials t ON t.trial_id = a.trial_id
            WHERE a.ended_at IS NULL AND a.expires_at < now()
              AND pg_postmaster_start_time() + a.lease < now()
              AND t.study_id = ANY(optuna_studies)
            LIMIT 1 FOR NO KEY UPDATE OF t, a SKIP LOCKED;
        lost := FOUND;
        RAISE EXCEPTION 'that was a look' USING ERRCODE = 'FL000';
    EXCEPTION WHEN SQLSTATE 'FL000' THEN
        RETURN lost;
    END;
END $$;

-- Claim a trial of one study, and open an attempt at it, in one transaction.
--
-- Lock the study's row as Optuna does, take the lowest WAITING trial, else insert a RUNNING one while
-- fewer than the budget count or are under way. The study is read again once it is locked, because who
-- steers it holds the same lock. Who finds nothing to claim has locked nothing. The key is the
-- worker's, so a claim whose reply was lost is repeated safely. expired asks the caller to take lost
-- trials back and to claim again, without reap: they come before new ones. busy says that somebody has
-- the study locked; who waits for it does so for no longer than the transaction's lock_timeout.
CREATE FUNCTION fleet.claim(
    study_name text, claim_key uuid, worker_name text, seconds float8,
    reap boolean DEFAULT true, wait boolean DEFAULT true,
    OUT expired boolean, OUT busy boolean, OUT fence bigint, OUT trial_id integer,
    OUT number integer, OUT stage text, OUT attempt bigint
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
    busy := false;
    FOR i IN 1..2 LOOP
        SELECT * INTO study FROM fleet.studies s WHERE s.name = study_name;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'study % was deleted', study_name USING ERRCODE = 'FL003';
        END IF;
        IF study.stage NOT IN ('search', 'final') THEN
            RETURN;
        END IF;
        subject := fleet.claimed_from(study);
        -- Before and after the lock, and after the counters are read: the claim may have been made, or
        -- be made at this moment, and only its reply was lost.
        SELECT * INTO kept FROM fleet.counters c WHERE c.study_id = subject;
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
        IF i = 1 AND reap AND study.paused_at IS NULL THEN
            expired := fleet.has_lost(ARRAY[study.search_id, study.final_id]);
            IF expired THEN
                RETURN;
            END IF;
        END IF;
        IF i = 2 AND subject <> locked OR NOT fleet.may_claim(study, kept) THEN
            RETURN;
        END IF;
        EXIT WHEN i = 2;
        IF wait THEN
            PERFORM FROM public.studies s WHERE s.study_id = subject FOR UPDATE;
        ELSE
            PERFORM FROM public.studies s WHERE s.study_id = subject FOR UPDATE SKIP LOCKED;
            busy := NOT FOUND AND EXISTS (
                SELECT FROM public.studies s WHERE s.study_id = subject);
            IF busy THEN
                RETURN;
            END IF;
        END IF;
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
    ELSIF NOT fleet.may_begin(study, kept) THEN
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
    LEFT JOIN fleet.counters c ON c.study_id = fleet.claimed_from(s)
    WHERE s.stage IN ('search', 'final')  -- what the index of open studies has
      AND s.compatibility = compatible AND s.name <> ALL (skipped) AND fleet.may_claim(s, c)
    ORDER BY coalesce(c.running, 0)::float8 / s.priority, coalesce(c.claimed, 0),
        s.priority DESC, s.created_at, s.name
$$;

-- Claim a trial of whichever study is next.
--
-- Workers choose one after the other, under a lock that ends with the transaction: of many that ask at
-- once, each sees what those before it have taken. The claim itself is the study's own, so budgets are
-- exact whatever the choice.
--
-- Nobody waits under that lock: a study that somebody has locked is passed over for the next one, and
-- busy names the first such study where there is nothing else. expired is as for fleet.claim; reaped
-- are the studies of which lost trials have been taken back by now.
CREATE FUNCTION fleet.claim_any(
    claim_key uuid, worker_name text, seconds float8, compatible integer, skipped text[],
    reaped text[] DEFAULT '{}',
    OUT study text, OUT expired boolean, OUT busy boolean, OUT fence bigint, OUT trial_id integer,
    OUT number integer, OUT stage text, OUT attempt bigint
) LANGUAGE plpgsql AS $$
DECLARE
    candidate text;
    locked boolean;
BEGIN
    expired := false;
    busy := false;
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
    -- Lost trials of every study are taken back first.
    IF EXISTS (
        SELECT FROM fleet.attempts a WHERE a.ended_at IS NULL AND a.expires_at < now()
    ) THEN
        SELECT s.name INTO study FROM fleet.studies s
            WHERE s.stage IN ('search', 'final') AND s.name <> ALL (reaped)
              AND fleet.has_lost(ARRAY[s.search_id, s.final_id]) LIMIT 1;
        IF FOUND THEN
            expired := true;
            RETURN;
        END IF;
    END IF;
    IF NOT EXISTS (SELECT FROM fleet.next_studies(compatible, skipped)) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(7165838, 1);  -- 'mgf' and 1: nobody else's number
    -- What else a claim may meet is locked for as long as a commit takes, if all is well.
    PERFORM set_config('lock_timeout', '50', true);
    FOR candidate IN SELECT * FROM fleet.next_studies(compatible, skipped) LOOP
        BEGIN
            SELECT c.busy, c.fence, c.trial_id, c.number, c.stage, c.attempt
                INTO locked, fence, trial_id, number, stage, attempt
                FROM fleet.claim(candidate, claim_key, worker_name, seconds, false, false) c;
        EXCEPTION
            WHEN SQLSTATE 'FL003' THEN CONTINUE;  -- deleted a moment ago
            WHEN lock_not_available THEN locked := true;
        END;
        IF fence IS NOT NULL THEN
            study := candidate;
            busy := false;
            RETURN;
        ELSIF locked AND NOT busy THEN
            study := candidate;
            busy := true;
        END IF;
    END LOOP;
END $$;
