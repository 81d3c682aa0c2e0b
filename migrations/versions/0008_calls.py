"""A claim, a report, an ending and a heartbeat in one round trip each."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE fleet.attempts ADD COLUMN step bigint NOT NULL DEFAULT 0")
    for statement in (REFUSE, FORGET, CLAIM, REPORT, FINISH, BEAT):
        op.execute(statement)


def downgrade() -> None:
    for name in ("beat", "finish", "report", "claim", "forget_reports", "refuse"):
        op.execute(f"DROP FUNCTION fleet.{name}")
    op.execute("ALTER TABLE fleet.attempts DROP COLUMN step")


# SQLSTATEs: FL001, the lease is another's by now; FL002, the trial is finished; FL003, the study
# was deleted. Locks are taken in the order study, trial, attempt, counters.

# Who finds nothing to claim has locked nothing. `expired` asks the caller to take lost trials back
# and to claim again: they come before new ones.
CLAIM = r"""
CREATE FUNCTION fleet.claim(
    study_name text, claim_key uuid, worker_name text, seconds float8,
    OUT expired boolean, OUT fence bigint, OUT trial_id integer, OUT number integer,
    OUT stage text, OUT attempt bigint
) LANGUAGE plpgsql AS $$
DECLARE
    study fleet.studies%ROWTYPE;
    kept fleet.counters%ROWTYPE;
    subject integer;
    from_step bigint := 0;
    completed integer := 0;
BEGIN
    expired := false;
    SELECT * INTO study FROM fleet.studies s WHERE s.name = study_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'study % was deleted', study_name USING ERRCODE = 'FL003';
    END IF;
    IF study.stage NOT IN ('search', 'final') THEN
        RETURN;
    END IF;
    subject := CASE study.stage WHEN 'search' THEN study.search_id ELSE study.final_id END;
    FOR i IN 1..2 LOOP
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
        IF EXISTS (SELECT FROM fleet.attempts a WHERE a.claim_id = claim_key) THEN
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
            OR kept.running + kept.complete + kept.pruned >= study.budget
            OR kept.failed > study.max_failures) THEN
            RETURN;
        END IF;
        PERFORM FROM public.studies s WHERE s.study_id = subject FOR UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'study % was deleted', study_name USING ERRCODE = 'FL003';
        END IF;
    END LOOP;

    -- SKIP LOCKED: a row that a reaper is about to change is not worth waiting for.
    SELECT t.trial_id, t.number INTO trial_id, number FROM public.trials t
        WHERE t.study_id = subject AND t.state = 'WAITING'
        ORDER BY t.number LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        SELECT coalesce(max(c.step), 0), coalesce(max(c.rungs), 0) INTO from_step, completed
            FROM fleet.checkpoints c WHERE c.trial_id = claim.trial_id;
        PERFORM fleet.forget_reports(trial_id, from_step, completed);
        UPDATE public.trials t SET state = 'RUNNING', datetime_start = now() AT TIME ZONE 'utc'
            WHERE t.trial_id = claim.trial_id;
    ELSIF study.stage = 'final' OR kept.failed > study.max_failures
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
# What an attempt that starts at a checkpoint may not keep: reports past it would mix with its own,
# and nobody would judge it again on rungs past it.
FORGET = """
CREATE FUNCTION fleet.forget_reports(subject integer, after bigint, completed integer) RETURNS void
LANGUAGE sql AS $$
    DELETE FROM public.trial_intermediate_values i WHERE i.trial_id = subject AND i.step > after;
    DELETE FROM fleet.metrics m WHERE m.trial_id = subject AND m.step > after;
    DELETE FROM public.trial_system_attributes a
        WHERE a.trial_id = subject
          AND substring(a.key FROM '^completed_rung_([0-9]+)$')::integer >= completed;
$$
"""
# `stored` is the last step that is stored of this attempt. A report commits without waiting for the
# disk, and its worker keeps it; one that a crash of the server lost leaves `stored` behind `sent`,
# and is then sent again, before anything else is written.
REPORT = """
CREATE FUNCTION fleet.report(
    held bigint, subject integer, sent bigint, steps bigint[], returns float8[],
    metric_steps bigint[], metric_names text[], metric_values text[],
    OUT stored bigint, OUT finished bigint
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('fleet.fence', held::text, true),
        set_config('synchronous_commit', 'off', true);
    UPDATE fleet.attempts a SET expires_at = now() + a.lease
        WHERE a.fence = held AND a.ended_at IS NULL RETURNING a.step INTO stored;
    IF NOT FOUND THEN
        PERFORM fleet.refuse(held, subject);
    END IF;
    SELECT c.finished INTO finished FROM public.trials t
        JOIN fleet.counters c ON c.study_id = t.study_id WHERE t.trial_id = subject;
    IF stored < sent THEN
        RETURN;
    END IF;
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
    stored := steps[array_upper(steps, 1)];
    UPDATE fleet.attempts a SET step = stored WHERE a.fence = held;
END $$
"""
# False where reports that a crash has lost must be sent first; then nothing was written.
FINISH = """
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
END $$
"""
REFUSE = """
CREATE FUNCTION fleet.refuse(held bigint, subject integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    how text;
BEGIN
    SELECT a.outcome INTO how FROM fleet.attempts a WHERE a.fence = held;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the study of trial % was deleted', subject USING ERRCODE = 'FL003';
    END IF;
    RAISE EXCEPTION 'trial % was % under fence %', subject, how, held USING ERRCODE = 'FL001';
END $$
"""
# Extends the lease, if the worker has one, says that it is alive, and hears whether the server is
# running out of connections: more than three quarters of those that are not kept for superusers.
BEAT = """
CREATE FUNCTION fleet.beat(
    held bigint, me text, study_name text, host_name text, process integer, version_text text,
    trial integer, at_step bigint, pace float8,
    OUT extended boolean, OUT deleted boolean, OUT crowded boolean
) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fleet.attempts a SET expires_at = now() + a.lease
        WHERE a.fence = held AND a.ended_at IS NULL;
    extended := FOUND;
    deleted := held IS NOT NULL AND NOT extended
        AND NOT EXISTS (SELECT FROM fleet.attempts a WHERE a.fence = held);
    INSERT INTO fleet.workers AS w
        (worker, study, host, pid, version, trial_number, step, steps_per_second)
    VALUES (me, study_name, host_name, process, version_text, trial, at_step, pace)
    ON CONFLICT (worker) DO UPDATE SET
        trial_number = excluded.trial_number, step = excluded.step,
        steps_per_second = excluded.steps_per_second, seen_at = now();
    SELECT sum(d.numbackends) > 0.75 * (
            current_setting('max_connections')::integer
            - current_setting('superuser_reserved_connections')::integer
            - coalesce(current_setting('reserved_connections', true)::integer, 0))
        INTO crowded FROM pg_stat_database d;
END $$
"""
