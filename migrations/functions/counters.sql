-- How many trials of an Optuna study are in each state, and the order in which they finished: kept,
-- not counted.
--
-- SECURITY DEFINER: whoever may change a trial may not write these tables by hand. What is deleted is
-- not counted: a trial goes with its study, and the counters, too.

-- Count the changes of state of some trials of one study: where each was before (NULL if it is new)
-- and is now.
--
-- The counters' row is the last that a transaction locks, and stays locked to its commit. So positions
-- in fleet.finished are committed in their order, and who has read up to one has missed none before
-- it. It is written once for a statement: a row that one transaction writes thousands of times takes
-- longer each time.
CREATE FUNCTION fleet.count(
    study integer, trials integer[], before public.trialstate[], after public.trialstate[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ending integer[];
    last bigint;
BEGIN
    SELECT array_agg(c.trial ORDER BY c.trial) INTO ending
        FROM unnest(trials, before, after) AS c (trial, before, after)
        WHERE c.after IN ('COMPLETE', 'PRUNED', 'FAIL')
          AND coalesce(c.before NOT IN ('COMPLETE', 'PRUNED', 'FAIL'), true);
    INSERT INTO fleet.counters AS c
        (study_id, waiting, running, complete, pruned, failed, finished)
    SELECT study,
        coalesce(sum(s.change) FILTER (WHERE s.state = 'WAITING'), 0),
        coalesce(sum(s.change) FILTER (WHERE s.state = 'RUNNING'), 0),
        coalesce(sum(s.change) FILTER (WHERE s.state = 'COMPLETE'), 0),
        coalesce(sum(s.change) FILTER (WHERE s.state = 'PRUNED'), 0),
        coalesce(sum(s.change) FILTER (WHERE s.state = 'FAIL'), 0),
        coalesce(cardinality(ending), 0)
    FROM (
        SELECT -1 AS change, b.state FROM unnest(before) AS b (state)
        UNION ALL SELECT 1, a.state FROM unnest(after) AS a (state)
    ) s
    ON CONFLICT (study_id) DO UPDATE SET
        waiting = c.waiting + excluded.waiting,
        running = c.running + excluded.running,
        complete = c.complete + excluded.complete,
        pruned = c.pruned + excluded.pruned,
        failed = c.failed + excluded.failed,
        finished = c.finished + excluded.finished
    RETURNING c.finished INTO last;
    IF ending IS NOT NULL THEN
        INSERT INTO fleet.finished (study_id, position, trial_id)
        SELECT study, last - cardinality(ending) + e.place, e.trial
        FROM unnest(ending) WITH ORDINALITY AS e (trial, place);
    END IF;
END $$;

CREATE FUNCTION fleet.count_new_trials() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.count(n.study_id, n.trials, array_fill(NULL::public.trialstate,
            ARRAY[cardinality(n.trials)]), n.states)
        FROM (
            SELECT study_id, array_agg(trial_id) AS trials, array_agg(state) AS states
            FROM after GROUP BY study_id ORDER BY study_id
        ) n;
    RETURN NULL;
END $$;
CREATE TRIGGER fleet_count_new AFTER INSERT ON public.trials
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION fleet.count_new_trials();

CREATE FUNCTION fleet.count_changed_trials() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.count(c.study_id, c.trials, c.before, c.after)
        FROM (
            SELECT a.study_id, array_agg(a.trial_id) AS trials, array_agg(b.state) AS before,
                array_agg(a.state) AS after
            FROM before b JOIN after a USING (trial_id) WHERE a.state <> b.state
            GROUP BY a.study_id ORDER BY a.study_id
        ) c;
    RETURN NULL;
END $$;
CREATE TRIGGER fleet_count_changed AFTER UPDATE ON public.trials
    REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION fleet.count_changed_trials();

-- Record the fence of a study's last claim, which says which study was served last. The claim's
-- transaction has locked the counters already, as the trial's state has changed.
CREATE FUNCTION fleet.count_claim() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fleet.counters c SET claimed = NEW.fence
        FROM public.trials t WHERE t.trial_id = NEW.trial_id AND c.study_id = t.study_id;
    RETURN NULL;
END $$;
CREATE TRIGGER fleet_count_claim AFTER INSERT ON fleet.attempts
FOR EACH ROW EXECUTE FUNCTION fleet.count_claim();
