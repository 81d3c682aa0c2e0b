-- How many trials of an Optuna study are in each state, and the order in which they finished: kept,
-- not counted.
--
-- SECURITY DEFINER: whoever may change a trial may not write these tables by hand. What is deleted is
-- not counted: a trial goes with its study, and the counters, too.

-- Add to the counters of a study what one statement has changed, and number the trials that it ended.
--
-- The counters' row is the last that a transaction locks, and stays locked to its commit. So positions
-- in fleet.finished are committed in their order, and who has read up to one has missed none before
-- it. It is written once for a statement: a row that one transaction writes thousands of times takes
-- longer each time.
CREATE FUNCTION fleet.count(
    study integer, more_waiting bigint, more_running bigint, more_complete bigint,
    more_pruned bigint, more_failed bigint, ending integer[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
BEGIN
    INSERT INTO fleet.counters AS c
        (study_id, waiting, running, complete, pruned, failed, finished)
    VALUES (study, more_waiting, more_running, more_complete, more_pruned, more_failed,
        coalesce(cardinality(ending), 0))
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
    PERFORM fleet.count(c.study_id, c.waiting, c.running, c.complete, c.pruned, c.failed, c.ending)
    FROM (
        SELECT study_id,
            count(*) FILTER (WHERE state = 'WAITING') AS waiting,
            count(*) FILTER (WHERE state = 'RUNNING') AS running,
            count(*) FILTER (WHERE state = 'COMPLETE') AS complete,
            count(*) FILTER (WHERE state = 'PRUNED') AS pruned,
            count(*) FILTER (WHERE state = 'FAIL') AS failed,
            array_agg(trial_id ORDER BY trial_id)
                FILTER (WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')) AS ending
        FROM after GROUP BY study_id ORDER BY study_id
    ) c;
    RETURN NULL;
END $$;
CREATE TRIGGER fleet_count_new AFTER INSERT ON public.trials
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION fleet.count_new_trials();

CREATE FUNCTION fleet.count_changed_trials() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.count(c.study_id, c.waiting, c.running, c.complete, c.pruned, c.failed, c.ending)
    FROM (
        SELECT a.study_id,
            sum((a.state = 'WAITING')::integer - (b.state = 'WAITING')::integer) AS waiting,
            sum((a.state = 'RUNNING')::integer - (b.state = 'RUNNING')::integer) AS running,
            sum((a.state = 'COMPLETE')::integer - (b.state = 'COMPLETE')::integer) AS complete,
            sum((a.state = 'PRUNED')::integer - (b.state = 'PRUNED')::integer) AS pruned,
            sum((a.state = 'FAIL')::integer - (b.state = 'FAIL')::integer) AS failed,
            array_agg(a.trial_id ORDER BY a.trial_id)
                FILTER (WHERE a.state IN ('COMPLETE', 'PRUNED', 'FAIL')
                          AND b.state IN ('WAITING', 'RUNNING')) AS ending
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
