"""The check that the fault tests end with notices every kind of damage that it is there for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import URL, text

from coordinator.watch import step
from tests.support.invariants import check_invariants
from tests.support.server import Server
from tests.support.studies import create, finish, take, take_all, train_by_hand
from trialfleet.store.storage import Database

SEARCH = "study_id = (SELECT search_id FROM fleet.studies)"
FINAL = "study_id = (SELECT final_id FROM fleet.studies)"
TRIAL_0 = f"(SELECT trial_id FROM public.trials WHERE {SEARCH} AND number = 0)"
FINAL_0 = f"(SELECT trial_id FROM public.trials WHERE {FINAL} AND number = 0)"
MODEL_0 = f"SELECT artifact FROM fleet.artifacts WHERE kind = 'model' AND trial_id = {FINAL_0}"

# What a mistake would leave behind, and how it is told.
DAMAGES = {
    "one_too_few": (
        f"UPDATE public.trials SET state = 'FAIL' WHERE trial_id = {TRIAL_0}",
        "A: 3 trials count, the budget is 4",
    ),
    "one_too_many": ("UPDATE fleet.studies SET budget = 3", "A: 4 trials count"),
    "too_many_failures": ("UPDATE fleet.studies SET max_failures = 0", "A: 1 trials failed"),
    "a_row_too_many": (
        "INSERT INTO public.trials (study_id, number, state) "
        "SELECT search_id, 5, 'WAITING' FROM fleet.studies",
        "B: 6 rows for 4 counted and 1 failed trials",
    ),
    "not_at_its_end": ("UPDATE fleet.studies SET stage = 'final'", "still at 'final'"),
    "running": (
        f"UPDATE public.trials SET state = 'RUNNING' WHERE trial_id = {FINAL_0}",
        "final: C: trial 0 is RUNNING",
    ),
    "a_lease_left": (
        "UPDATE fleet.attempts SET ended_at = NULL, outcome = NULL WHERE fence = 1",
        "C: trial 0 still has a lease",
    ),
    "a_gap": (
        f"UPDATE public.trials SET number = 9 WHERE trial_id = {TRIAL_0}",
        "search: D: the numbers are",
    ),
    "the_same_number_twice": (
        f"UPDATE public.trials SET number = 1 WHERE trial_id = {TRIAL_0}",
        "search: D: the numbers are",
    ),
    "finished_twice": (
        "INSERT INTO fleet.attempts (trial_id, claim_id, worker, lease, expires_at, ended_at, "
        f"outcome) SELECT {TRIAL_0}, gen_random_uuid(), 'x', '1 s', now(), now(), 'finished'",
        "E: trial 0 is COMPLETE after attempts",
    ),
    "an_infinite_value": (
        "UPDATE public.trial_values SET value = 'Infinity', value_type = 'INF_POS' "
        f"WHERE trial_id = {TRIAL_0}",
        "E: trial 0 is COMPLETE with values",
    ),
    "no_value": (
        f"DELETE FROM public.trial_values WHERE trial_id = {TRIAL_0}",
        "E: trial 0 is COMPLETE with values",
    ),
    "a_report_without_its_curve": (
        f"DELETE FROM fleet.metrics WHERE trial_id = {TRIAL_0}",
        "B: trial 0 reported at",
    ),
    "no_model": (
        f"DELETE FROM public.trial_user_attributes WHERE trial_id = {FINAL_0} AND key = 'model'",
        "F: the model of final trial 0 is not there",
    ),
    "a_lost_model": (
        f"DELETE FROM fleet.blobs WHERE blob_id IN ({MODEL_0})",
        "F: the model of final trial 0 is not stored",
    ),
    "a_damaged_model": (
        f"UPDATE fleet.blob_chunks SET data = data || 'x'::bytea WHERE blob_id IN ({MODEL_0})",
        "F: the model of final trial 0 does not match",
    ),
    "a_damaged_best_agent": (
        "UPDATE fleet.blob_chunks SET data = set_byte(data, 99, 7) "
        "WHERE blob_id IN (SELECT artifact FROM fleet.artifacts WHERE kind = 'best')",
        "F: the best agent does not match",
    ),
    "no_reason": (
        "DELETE FROM public.trial_user_attributes WHERE key = 'reason'",
        "failed without a reason",
    ),
    "a_seed_of_the_search": (
        "UPDATE public.trial_user_attributes SET value_json = "
        "(SELECT value_json FROM public.trial_user_attributes "
        f"WHERE trial_id = {TRIAL_0} AND key = 'seeds') "
        f"WHERE trial_id = {FINAL_0} AND key = 'seeds'",
        "fresh seeds were used in the search",
    ),
    "a_seed_used_twice": (
        "UPDATE public.trial_user_attributes SET value_json = '[7, 7]' "
        f"WHERE trial_id = {FINAL_0} AND key = 'seeds'",
        "seeds were used more than once",
    ),
    "a_seed_too_few": (
        "UPDATE public.trial_user_attributes SET value_json = '[7]' "
        f"WHERE trial_id = {FINAL_0} AND key = 'seeds'",
        "another number of fresh seeds",
    ),
    "no_seeds": (
        f"DELETE FROM public.trial_user_attributes WHERE trial_id = {TRIAL_0} AND key = 'seeds'",
        "H: search trials [0] do not tell their seeds",
    ),
}


@pytest.fixture(scope="module")
def sound(server: Server) -> Iterator[URL]:
    """A study at its end, with a failure, a loss and nothing wrong; its guards are off."""
    with server.fresh_database() as url:
        with closing(Database(url, application="tests")) as database:
            study = create(database, trials=4, top=2, seeds=2, final_seeds=4)
            claims = take_all(database)
            finish(database, claims.pop(), state="FAIL")
            for claim in [*claims, take(database)]:
                train_by_hand(database, study, claim, scores=[float(claim.number)] * 2)
            study = step(database, study.name)
            for claim in take_all(database):
                train_by_hand(database, study, claim, scores=[1.0, 2.0])
            step(database, study.name)
            check_invariants(database, study.name)
            with database.transaction() as connection:
                guards = connection.execute(
                    text(
                        "SELECT tgrelid::regclass, tgname FROM pg_trigger "
                        "WHERE tgname LIKE 'fleet_guard%' OR tgname = 'fleet_admit'"
                    )
                ).all()
                for table, guard in guards:
                    connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER {guard}"))
        yield url


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told(server: Server, sound: URL, name: str) -> None:
    statement, told = DAMAGES[name]
    assert sound.database is not None
    with (
        server.fresh_database(template=sound.database) as url,
        closing(Database(url, application="tests")) as database,
    ):
        with database.transaction() as connection:
            assert connection.execute(text(statement)).rowcount > 0
        with pytest.raises(AssertionError) as broken:
            check_invariants(database, "trivial")
    assert told in str(broken.value)
