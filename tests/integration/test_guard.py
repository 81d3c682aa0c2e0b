"""The database itself refuses whoever has lost a trial, stock Optuna's own writes included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import optuna
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tests.support.studies import create, expire, extend, finish, states, take
from trialfleet.errors import LeaseLostError
from trialfleet.postgres.outages import lease_was_lost
from trialfleet.postgres.waiting import wait_until
from trialfleet.store import leases, metrics
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import life

Open = Callable[[], Database]

# One row for each guarded table, as an ordinary write would insert it.
ROWS = {
    "public.trial_params": "(trial_id, param_name, param_value, distribution_json) "
    "VALUES (:trial_id, 'x', 1, '{}')",
    "public.trial_values": "(trial_id, objective, value, value_type) "
    "VALUES (:trial_id, 0, 1, 'FINITE')",
    "public.trial_intermediate_values": "(trial_id, step, intermediate_value, "
    "intermediate_value_type) VALUES (:trial_id, 1, 1, 'FINITE')",
    "public.trial_user_attributes": "(trial_id, key, value_json) VALUES (:trial_id, 'x', '1')",
    "public.trial_system_attributes": "(trial_id, key, value_json) VALUES (:trial_id, 'x', '1')",
    "fleet.metrics": "(trial_id, name, step, values) VALUES (:trial_id, 'x', 1, '{1}')",
    "fleet.checkpoints": "(trial_id, step, rungs, artifact, sha256, size) "
    "VALUES (:trial_id, 1, 0, 'x', 'x', 1)",
}
# And a change of a row that is there.
CHANGES = {
    "public.trials": "SET datetime_start = now()",
    "public.trial_params": "SET param_value = 2",
    "public.trial_values": "SET value = 2",
    "public.trial_intermediate_values": "SET intermediate_value = 2",
    "public.trial_user_attributes": "SET value_json = '2'",
    "public.trial_system_attributes": "SET value_json = '2'",
    "fleet.metrics": "SET values = '{2}'",
    "fleet.checkpoints": "SET step = 2",
}


def put(table: str) -> str:
    return f"INSERT INTO {table} {ROWS[table]}"


def change(table: str) -> str:
    return f"UPDATE {table} {CHANGES[table]} WHERE trial_id = :trial_id"


def remove(table: str) -> str:
    return f"DELETE FROM {table} WHERE trial_id = :trial_id"


def write(database: Database, statement: str, claim: Claim, *, fence: int | None) -> int:
    """Run it in one transaction under the fence; how many rows it wrote."""
    with database.transaction(fence) as connection:
        return connection.execute(text(statement), {"trial_id": claim.trial_id}).rowcount


def refusal(database: Database, statement: str, claim: Claim, *, fence: int | None) -> str:
    """The SQLSTATE with which the statement is refused."""
    with pytest.raises(DBAPIError) as refused:
        write(database, statement, claim, fence=fence)
    assert lease_was_lost(refused.value)
    code: str = refused.value.orig.pgcode  # type: ignore[union-attr]
    return code


def taken_over(database: Database) -> tuple[Claim, Claim]:
    """A trial's stale claim, and the one that holds it now."""
    stale = take(database)
    expire(database)
    leases.reap(database, "trivial")
    current = take(database)
    assert current.trial_id == stale.trial_id
    return stale, current


def test_every_table_that_belongs_to_a_trial_is_guarded(database: Database) -> None:
    # A table of a later Optuna, or of ours, that refers to trials must not be forgotten. Attempts
    # are the leases themselves; Optuna's heartbeats are not used, and hold no result.
    with database.transaction() as connection:
        references = set(
            connection.scalars(
                text(
                    "SELECT conrelid::regclass::text FROM pg_constraint "
                    "WHERE contype = 'f' AND confrelid = 'public.trials'::regclass"
                )
            )
        )
        triggers = text("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = :name")
        guarded = set(connection.scalars(triggers, {"name": "fleet_guard"}))
        kept = set(connection.scalars(triggers, {"name": "fleet_guard_delete"}))
    assert guarded == {"trials"} | references - {
        *("fleet.attempts", "trial_heartbeats"),
        "fleet.finished",  # written by a trigger alone
    }
    assert guarded == kept == {table.removeprefix("public.") for table in CHANGES}


@pytest.mark.parametrize("table", ROWS)
def test_only_the_lease_holder_writes_to_a_trials_rows(database: Database, table: str) -> None:
    create(database)
    stale, current = taken_over(database)
    other = take(database)
    others = (stale.fence, other.fence, current.fence + 100, None)
    for fence in others:
        assert refusal(database, put(table), current, fence=fence) == "FL001"
    assert write(database, put(table), current, fence=current.fence) == 1
    for fence in others:
        assert refusal(database, change(table), current, fence=fence) == "FL001"
        assert refusal(database, remove(table), current, fence=fence) == "FL001"
    assert write(database, change(table), current, fence=current.fence) == 1
    assert write(database, remove(table), current, fence=current.fence) == 1


def test_only_the_lease_holder_changes_the_trial_itself(database: Database) -> None:
    create(database)
    stale, current = taken_over(database)
    statement = "UPDATE public.trials SET state = 'COMPLETE' WHERE trial_id = :trial_id"
    for fence in (stale.fence, None):
        assert refusal(database, statement, current, fence=fence) == "FL001"
        refusal(database, remove("public.trials"), current, fence=fence)
    assert write(database, statement, current, fence=current.fence) == 1


def test_nobody_writes_to_a_waiting_trial_under_the_lease_it_had(database: Database) -> None:
    create(database)
    claim = take(database)
    leases.release(database, claim)
    for table in ROWS:
        assert refusal(database, put(table), claim, fence=claim.fence) == "FL001"


@pytest.mark.parametrize("state", ["COMPLETE", "PRUNED", "FAIL"])
@pytest.mark.parametrize("table", CHANGES)
def test_finished_is_final(database: Database, table: str, state: str) -> None:
    create(database)
    claim = take(database)
    if table in ROWS:
        write(database, put(table), claim, fence=claim.fence)
    finish(database, claim, state=state, attributes={"other": 1})  # type: ignore[arg-type]
    # Not even without a lease: no code of ours and no tool of Optuna's changes what is finished.
    assert refusal(database, change(table), claim, fence=None) == "FL002"
    assert refusal(database, change(table), claim, fence=claim.fence) == "FL001"
    if table in ROWS:
        assert refusal(database, put(table), claim, fence=None) == "FL002"
    if table == "fleet.checkpoints":  # no result, and of no use any more
        assert write(database, remove(table), claim, fence=None) == 1
    else:
        assert refusal(database, remove(table), claim, fence=None) == "FL002"
        refusal(database, remove(table), claim, fence=claim.fence)


def test_a_finished_trial_under_an_open_lease_is_final_too(database: Database) -> None:
    # Stock Optuna's tell, run by the lease's holder, finishes the trial but not the lease.
    study = create(database)
    claim = take(database)
    storage = database.optuna_storage(claim.fence)
    storage.set_trial_state_values(claim.trial_id, optuna.trial.TrialState.FAIL)
    assert states(database, study.search_id) == [(0, "FAIL")]
    statement = "UPDATE public.trials SET state = 'RUNNING' WHERE trial_id = :trial_id"
    assert refusal(database, statement, claim, fence=claim.fence) == "FL002"
    for table in ROWS:
        assert refusal(database, put(table), claim, fence=claim.fence) == "FL002"


def live_trial(database: Database, study: Study, claim: Claim) -> optuna.Trial:
    storage = database.optuna_storage(claim.fence)
    return optuna.Trial(database.optuna_study(study.name, storage=storage), claim.trial_id)


# What stock Optuna does to a trial; `optuna_trial` has read it while the lease was ours.
WRITES: dict[str, Callable[[optuna.Trial], object]] = {
    "report": lambda trial: trial.report(1.0, 1),
    "set_user_attr": lambda trial: trial.set_user_attr("key", 1),
    "set_system_attr": lambda trial: trial.storage.set_trial_system_attr(trial._trial_id, "k", 1),
    "suggest_float": lambda trial: trial.suggest_float("fresh", 0.0, 1.0),
    "tell": lambda trial: trial.study.tell(trial, state=optuna.trial.TrialState.FAIL),
}


@pytest.mark.parametrize("name", WRITES)
def test_stock_optuna_obeys_the_fence(open_database: Open, name: str) -> None:
    ours, theirs = open_database(), open_database()
    study = create(ours)
    claim = take(theirs)
    trial = live_trial(theirs, study, claim)
    fenceless = optuna.Trial(theirs.optuna_study(study.name), claim.trial_id)
    expire(ours)
    leases.reap(ours, "trivial")
    current = take(ours)
    before = ours.optuna_study(study.name).get_trials()

    with pytest.raises(Exception) as refused:  # noqa: PT011 - Optuna wraps some and not others
        WRITES[name](trial)
    assert lease_was_lost(refused.value)
    with pytest.raises(Exception) as refused:  # noqa: PT011
        WRITES[name](fenceless)
    assert lease_was_lost(refused.value)
    assert ours.optuna_study(study.name).get_trials() == before

    WRITES[name](live_trial(theirs, study, current))
    assert ours.optuna_study(study.name).get_trials() != before


def test_the_fence_ends_with_its_transaction(database: Database) -> None:
    create(database)
    claim = take(database)
    with database.engine.connect() as connection:
        with connection.begin():
            connection.execute(text("SELECT set_config('fleet.fence', :f, true)"), {"f": "1"})
        with connection.begin():
            assert not connection.scalar(text("SELECT current_setting('fleet.fence', true)"))
    # Nor does a cleared one linger on the pooled connection that has carried it.
    write(database, put("fleet.metrics"), claim, fence=claim.fence)
    assert refusal(database, change("fleet.metrics"), claim, fence=None) == "FL001"


def blocked_by(database: Database, connection: Connection) -> Callable[[], bool]:
    """Whether some other connection waits for a lock of this one."""
    pid = connection.scalar(text("SELECT pg_backend_pid()"))
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))")

    def holds() -> bool:
        with database.transaction() as looking:
            return bool(looking.scalar(waiting, {"pid": pid}))

    return holds


@contextmanager
def held_open(database: Database) -> Iterator[Connection]:
    """A transaction that the server does not end while nothing happens in it."""
    with database.engine.connect() as connection, connection.begin():
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield connection


def fenced(connection: Connection, claim: Claim) -> None:
    connection.execute(
        text("SELECT set_config('fleet.fence', :fence, true)"), {"fence": str(claim.fence)}
    )


def test_a_write_that_began_before_the_loss_is_refused_after_it(open_database: Open) -> None:
    worker, reaper = open_database(), open_database()
    create(reaper)
    claim = take(worker)
    with held_open(worker) as connection:
        fenced(connection, claim)
        connection.execute(text("SELECT 1 FROM public.trials"))
        expire(reaper)
        assert len(leases.reap(reaper, "trivial")) == 1
        with pytest.raises(DBAPIError) as refused:
            connection.execute(text(put("fleet.metrics")), {"trial_id": claim.trial_id})
        assert lease_was_lost(refused.value)


@pytest.mark.parametrize("table", ROWS)
def test_a_loss_waits_for_the_write_under_way(open_database: Open, table: str) -> None:
    # Without the lock on the lease the loss would overtake the write, which would commit after it.
    worker, reaper, observer = open_database(), open_database(), open_database()
    study = create(reaper)
    claim = take(worker)
    expire(reaper)
    with ThreadPoolExecutor(1) as pool:
        with held_open(worker) as connection:
            fenced(connection, claim)
            connection.execute(text(put(table)), {"trial_id": claim.trial_id})
            loss = pool.submit(leases.reap, reaper, "trivial")
            assert wait_until(blocked_by(observer, connection), 10, pause=0.01)
            assert states(observer, study.search_id) == [(0, "RUNNING")]
        assert [lost.number for lost in loss.result(10)] == [0]
    assert states(observer, study.search_id) == [(0, "WAITING")]
    assert refusal(worker, change(table), claim, fence=claim.fence) == "FL001"


def test_a_write_waits_for_the_loss_under_way_and_is_refused(open_database: Open) -> None:
    worker, reaper, observer = open_database(), open_database(), open_database()
    study = create(reaper)
    claim = take(worker)
    with ThreadPoolExecutor(1) as pool:
        with held_open(reaper) as connection:
            # What a reaper holds just before it commits.
            life.lock(connection, claim.trial_id)
            connection.execute(leases.LOCK_ATTEMPT, {"fence": claim.fence})
            connection.execute(leases.END_ATTEMPT, {"fence": claim.fence, "outcome": "lost"})
            life.set_waiting(connection, claim.trial_id)
            late = pool.submit(write, worker, put("fleet.metrics"), claim, fence=claim.fence)
            assert wait_until(blocked_by(observer, connection), 10, pause=0.01)
        with pytest.raises(DBAPIError) as refused:
            late.result(10)
    assert lease_was_lost(refused.value)
    assert metrics.read(observer, study.search_id, "x") == {}


def test_a_finish_waits_for_the_loss_under_way_and_is_refused(open_database: Open) -> None:
    worker, reaper, observer = open_database(), open_database(), open_database()
    study = create(reaper)
    claim = take(worker)
    with ThreadPoolExecutor(1) as pool:
        with held_open(reaper) as connection:
            life.lock(connection, claim.trial_id)
            connection.execute(leases.LOCK_ATTEMPT, {"fence": claim.fence})
            connection.execute(leases.END_ATTEMPT, {"fence": claim.fence, "outcome": "lost"})
            life.set_waiting(connection, claim.trial_id)
            late = pool.submit(finish, worker, claim)
            assert wait_until(blocked_by(observer, connection), 10, pause=0.01)
        with pytest.raises(LeaseLostError):
            late.result(10)
    assert states(observer, study.search_id) == [(0, "WAITING")]


def test_a_lease_extended_at_the_last_moment_is_not_reaped(open_database: Open) -> None:
    worker, reaper, observer = open_database(), open_database(), open_database()
    study = create(reaper)
    claim = take(worker)
    expire(reaper)
    with ThreadPoolExecutor(1) as pool:
        with held_open(worker) as connection:
            connection.execute(
                text("UPDATE fleet.attempts SET expires_at = now() + interval '30 seconds'")
            )
            loss = pool.submit(leases.reap, reaper, "trivial")
            assert wait_until(blocked_by(observer, connection), 10, pause=0.01)
        assert loss.result(10) == []
    assert states(observer, study.search_id) == [(0, "RUNNING")]
    assert extend(worker, claim)
