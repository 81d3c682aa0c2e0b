-- How many trials of an Optuna study are in each state, and the order in which they finished: kept,
-- not counted.
--
-- SECURITY DEFINER: whoever may change a trial may not write these tables by hand.

-- Count a trial's change of state.
--
-- The counters' row is the last that a transaction locks, and stays locked to its commit. So positions
-- in fleet.finished are committed in their order, and who has read up to one has missed none before
-- it.
CREATE FUNCTION fleet.count_trial() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text := CASE WHEN TG_OP <> 'INSERT' THEN OLD.state::text END;
    after text := CASE WHEN TG_OP <> 'DELETE' THEN NEW.state::text END;
    study integer := CASE TG_OP WHEN 'DELETE' THEN OLD.study_id ELSE NEW.study_id END;
    ended boolean := coalesce(after IN ('COMPLETE', 'PRUNED', 'FAIL'), false)
        AND coalesce(before NOT IN ('COMPLETE', 'PRUNED', 'FAIL'), true);
    place bigint;
BEGIN
    IF before IS NOT DISTINCT FROM after THEN
        RETURN NULL;
    END IF;
    INSERT INTO fleet.counters AS c
        (study_id, waiting, running, complete, pruned, failed, finished)
    VALUES (
        study,
        coalesce((after = 'WAITING')::integer, 0) - coalesce((before = 'WAITING')::integer, 0),
        coalesce((after = 'RUNNING')::integer, 0) - coalesce((before = 'RUNNING')::integer, 0),
        coalesce((after = 'COMPLETE')::integer, 0) - coalesce((before = 'COMPLETE')::integer, 0),
        coalesce((after = 'PRUNED')::integer, 0) - coalesce((before = 'PRUNED')::integer, 0),
        coalesce((after = 'FAIL')::integer, 0) - coalesce((before = 'FAIL')::integer, 0),
        ended::integer
    )
    ON CONFLICT (study_id) DO UPDATE SET
        waiting = c.waiting + excluded.waiting,
        running = c.running + excluded.running,
        complete = c.complete + excluded.complete,
        pruned = c.pruned + excluded.pruned,
        failed = c.failed + excluded.failed,
        finished = c.finished + excluded.finished
    RETURNING c.finished INTO place;
    IF ended THEN
        INSERT INTO fleet.finished (study_id, position, trial_id)
        VALUES (study, place, NEW.trial_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fleet_count AFTER INSERT OR DELETE OR UPDATE OF state ON public.trials
FOR EACH ROW EXECUTE FUNCTION fleet.count_trial();

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
