-- A deleted study takes everything along, whoever deletes it: the dashboard, Optuna, or SQL.
--
-- The functions run with our rights: whoever may delete a study may delete all of it.

-- Delete the rows of a trial that goes. Its row is locked by then, so this also sees what workers have
-- written since Optuna made its list of what to delete: its deletion would fail, and it does not
-- say so.
CREATE FUNCTION fleet.delete_trial_rows() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM public.trial_params WHERE trial_id = OLD.trial_id;
    DELETE FROM public.trial_values WHERE trial_id = OLD.trial_id;
    DELETE FROM public.trial_intermediate_values WHERE trial_id = OLD.trial_id;
    DELETE FROM public.trial_user_attributes WHERE trial_id = OLD.trial_id;
    DELETE FROM public.trial_system_attributes WHERE trial_id = OLD.trial_id;
    DELETE FROM public.trial_heartbeats WHERE trial_id = OLD.trial_id;
    RETURN OLD;
END $$;
CREATE TRIGGER fleet_delete_rows BEFORE DELETE ON public.trials
    FOR EACH ROW EXECUTE FUNCTION fleet.delete_trial_rows();

-- Delete the rows of an Optuna study that goes, with a trial that a worker has just started.
CREATE FUNCTION fleet.delete_study_rows() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM public.trials WHERE study_id = OLD.study_id;
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
