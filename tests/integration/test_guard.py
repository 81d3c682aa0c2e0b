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
from trialfleet.postgres.outages import chain, lease_was_lost
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


# How the database answers each writer, by the trial's situation: a SQLSTATE, or None for a write
# that is let through. A stranger carries no fence, as stock Optuna; a steerer none either, but says
# that it steers; a former holder's lease has ended, and another's is of another trial.
ANSWERS: dict[str, dict[str, str | None]] = {
    "enqueued": {"another": "FL001", "stranger": "FL004", "steerer": None},
    "given back": {"former": "FL001", "another": "FL001", "stranger": "FL004", "steerer": None},
    "leased": {
        **{"holder": None, "former": "FL001", "another": "FL001"},
        **{"stranger": "FL001", "steerer": "FL001"},
    },
    "running without a lease": {"another": "FL001", "stranger": "FL004", "steerer": None},
    "complete": {"former": "FL001", "another": "FL001", "stranger": "FL002", "steerer": "FL002"},
    "pruned": {"former": "FL001", "another": "FL001", "stranger": "FL002", "steerer": "FL002"},
    "failed": {"former": "FL001", "another": "FL001", "stranger": "FL002", "steerer": "FL002"},
    "enqueued in a final stage": {"another": "FL001", "stranger": "FL004", "steerer": None},
    "complete in a final stage": {"another": "FL001", "stranger": "FL002", "steerer": "FL002"},
    "stock Optuna's, waiting": {"another": "FL001", "stranger": None, "steerer": None},
    "stock Optuna's, running": {"another": "FL001", "stranger": None, "steerer": None},
    "stock Optuna's, complete": {"another": "FL001", "stranger": None, "steerer": None},
}


def situated(database: Database) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """A trial in each situation, by id, and the fences of those who have or had leases."""
    study = create(database, trials=20)
    fences: dict[str, dict[str, int]] = {name: {} for name in ANSWERS}
    trials: dict[str, int] = {}
    stale, current = taken_over(database)
    trials["leased"] = current.trial_id
    fences["leased"] = {"holder": current.fence, "former": stale.fence}
    for name, state in (("complete", "COMPLETE"), ("pruned", "PRUNED"), ("failed", "FAIL")):
        claim = take(database)
        trials[name], fences[name] = claim.trial_id, {"former": claim.fence}
        finish(database, claim, state=state)  # type: ignore[arg-type]
    another, released = take(database), take(database)
    trials["given back"], fences["given back"] = released.trial_id, {"former": released.fence}
    leases.release(database, released)
    stock = optuna.create_study(storage=database.optuna_storage())
    trials["stock Optuna's, waiting"] = _add(database, stock._study_id, "WAITING")
    trials["stock Optuna's, running"] = _add(database, stock._study_id, "RUNNING")
    trials["stock Optuna's, complete"] = _add(database, stock._study_id, "COMPLETE")
    trials["enqueued"] = _add(database, study.search_id, "WAITING")
    trials["running without a lease"] = _add(database, study.search_id, "RUNNING")
    final = optuna.create_study(storage=database.optuna_storage())
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.studies SET final_id = :id"), {"id": final._study_id})
    trials["enqueued in a final stage"] = _add(database, final._study_id, "WAITING")
    trials["complete in a final stage"] = _add(database, final._study_id, "COMPLETE")
    for name in ANSWERS:
        fences[name]["another"] = another.fence
    return trials, fences


def _add(database: Database, study_id: int, state: str) -> int:
    with database.transaction() as connection:
        life.steer(connection)
        return int(
            connection.execute(
                text(
                    "INSERT INTO public.trials (study_id, number, state) SELECT :study_id,"
                    " count(*), CAST(:state AS public.trialstate) FROM public.trials"
                    " WHERE study_id = :study_id RETURNING trial_id"
                ),
                {"study_id": study_id, "state": state},
            ).scalar_one()
        )


def test_who_may_write_what(database: Database) -> None:
    trials, fences = situated(database)
    found: dict[str, dict[str, set[str | None]]] = {
        name: {writer: set() for writer in answers} for name, answers in ANSWERS.items()
    }
    for name, trial_id in trials.items():
        for writer in ANSWERS[name]:
            for table in CHANGES:
                with database.engine.connect() as connection, connection.begin() as transaction:
                    if table in ROWS:
                        _become(connection, writer, fences[name].get(writer))
                        found[name][writer].add(_answer(connection, put(table), trial_id))
                        _put_unguarded(connection, table, trial_id)
                    _become(connection, writer, fences[name].get(writer))
                    found[name][writer].add(_answer(connection, change(table), trial_id))
                    transaction.rollback()
    assert found == {
        name: {writer: {answer} for writer, answer in answers.items()}
        for name, answers in ANSWERS.items()
    }


def _become(connection: Connection, writer: str, fence: int | None) -> None:
    connection.execute(
        text(
            "SELECT set_config('fleet.fence', :fence, true), set_config('fleet.steering', '', true)"
        ),
        {"fence": "" if fence is None else str(fence)},
    )
    if writer == "steerer":
        life.steer(connection)


def _put_unguarded(connection: Connection, table: str, trial_id: int) -> None:
    """Put a row there to be changed."""
    connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER fleet_guard"))
    connection.execute(text(f"{put(table)} ON CONFLICT DO NOTHING"), {"trial_id": trial_id})
    connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER fleet_guard"))


def _answer(connection: Connection, statement: str, trial_id: int) -> str | None:
    """The SQLSTATE of its refusal; None, and nothing is written, if it would be let through."""
    attempt = connection.begin_nested()
    try:
        connection.execute(text(statement), {"trial_id": trial_id})
    except DBAPIError as exc:
        return str(getattr(exc.orig, "pgcode", None))
    finally:
        attempt.rollback()
    return None


def stock_study(database: Database, study: Study) -> optuna.Study:
    """The study as stock Optuna opens it, on a storage of its own."""
    url = database.url.render_as_string(hide_password=False)
    return optuna.load_study(study_name=study.name, storage=optuna.storages.RDBStorage(url))


@contextmanager
def a_stranger_refused(words: str) -> Iterator[None]:
    """Expect the database to refuse a stranger with these words; Optuna may wrap the error."""
    with pytest.raises(Exception) as refused:  # noqa: PT011
        yield
    codes = [getattr(error, "pgcode", None) for error in chain(refused.value)]
    # Stock Optuna may set a result's state before its values, which finished trials refuse.
    assert {"FL004", "FL002"} & {*codes}
    assert words in "".join(str(error) for error in chain(refused.value))


OURS = "belongs to Trialfleet"
# What stock Optuna does that is not its to do.
STRANGE: dict[str, Callable[[optuna.Study], object]] = {
    "ask": lambda study: study.ask(),
    # As the dashboard does: Study.tell looks at the state itself.
    "tell a waiting trial": lambda study: study._storage.set_trial_state_values(
        study.get_trials()[0]._trial_id, optuna.trial.TrialState.COMPLETE, [999.0]
    ),
    "take a waiting trial": lambda study: study._storage.set_trial_state_values(
        study.get_trials()[0]._trial_id, optuna.trial.TrialState.RUNNING
    ),
    "change a waiting trial": lambda study: study._storage.set_trial_system_attr(
        study.get_trials()[0]._trial_id, "fixed_params", {"gamma": 0.5}
    ),
    "add a result": lambda study: study.add_trial(optuna.trial.create_trial(value=999.0)),
    "optimize": lambda study: study.optimize(lambda trial: 999.0, n_trials=1),
}


@pytest.mark.parametrize("storage", ["stock", "ours"])
@pytest.mark.parametrize("name", STRANGE)
def test_a_stranger_runs_no_trial_of_ours(database: Database, name: str, storage: str) -> None:
    study = create(database)
    leases.release(database, take(database))
    theirs = (
        stock_study(database, study) if storage == "stock" else database.optuna_study(study.name)
    )
    before = theirs.get_trials()
    with a_stranger_refused("final" if name == "add a result" and storage == "stock" else OURS):
        STRANGE[name](theirs)
    assert theirs.get_trials() == before
    assert states(database, study.search_id) == [(0, "WAITING")]
    assert take(database).number == 0


def test_a_stranger_enqueues_within_the_budget(database: Database) -> None:
    study = create(database, trials=2)
    theirs = stock_study(database, study)
    theirs.enqueue_trial({"gamma": 0.95}, user_attrs={"why": "a guess"})
    theirs.enqueue_trial({"gamma": 0.96})
    with a_stranger_refused("all 2 trials of study trivial"):
        theirs.enqueue_trial({"gamma": 0.97})
    assert states(database, study.search_id) == [(0, "WAITING"), (1, "WAITING")]
    assert theirs.get_trials()[0].user_attrs == {"why": "a guess"}
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.studies SET budget = 3, stage = 'done'"))
    with a_stranger_refused("the search of study trivial is over"):
        theirs.enqueue_trial({"gamma": 0.97})


def test_a_running_row_without_a_lease_is_taken_back(database: Database) -> None:
    study = create(database)
    held = take(database)
    with database.transaction() as connection:
        life.steer(connection)
        connection.execute(
            text(
                "INSERT INTO public.trials (study_id, number, state)"
                " VALUES (:study_id, 1, 'RUNNING')"
            ),
            {"study_id": study.search_id},
        )
    assert leases.reap(database, study.name) == []
    assert states(database, study.search_id) == [(0, "RUNNING"), (1, "WAITING")]
    assert take(database).number == 1
    assert leases.reap(database, study.name) == []
    assert extend(database, held)


def test_a_study_of_ours_keeps_its_name(database: Database) -> None:
    study = create(database)
    take(database)
    theirs = stock_study(database, study)
    with a_stranger_refused("keeps its name"), database.transaction() as connection:
        connection.execute(text("UPDATE public.studies SET study_name = 'mine'"))
    # As optuna-dashboard renames: copy all that Optuna knows, then delete.
    url = database.url.render_as_string(hide_password=False)
    with a_stranger_refused("not copied or renamed"):
        optuna.copy_study(
            from_study_name=study.name, from_storage=url, to_storage=url, to_study_name="mine"
        )
    assert theirs.user_attrs == {"digest": study.digest}


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
def test_a_loss_passes_over_a_write_under_way(open_database: Open, table: str) -> None:
    # Without the lock on the lease the loss would overtake the write, which would commit after it.
    worker, reaper = open_database(), open_database()
    study = create(reaper)
    claim = take(worker)
    expire(reaper)
    with held_open(worker) as connection:
        fenced(connection, claim)
        connection.execute(text(put(table)), {"trial_id": claim.trial_id})
        assert leases.reap(reaper, "trivial") == []
        assert states(reaper, study.search_id) == [(0, "RUNNING")]
    assert [lost.number for lost in leases.reap(reaper, "trivial")] == [0]
    assert states(reaper, study.search_id) == [(0, "WAITING")]
    assert refusal(worker, change(table), claim, fence=claim.fence) == "FL001"


def test_a_write_waits_for_the_loss_under_way_and_is_refused(open_database: Open) -> None:
    worker, reaper, observer = open_database(), open_database(), open_database()
    study = create(reaper)
    claim = take(worker)
    with ThreadPoolExecutor(1) as pool:
        with held_open(reaper) as connection:
            # What a reaper holds just before it commits.
            life.steer(connection)
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
            life.steer(connection)
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
    worker, reaper = open_database(), open_database()
    study = create(reaper)
    claim = take(worker)
    expire(reaper)
    with held_open(worker) as connection:
        connection.execute(
            text("UPDATE fleet.attempts SET expires_at = now() + interval '30 seconds'")
        )
        assert leases.reap(reaper, "trivial") == []
    assert leases.reap(reaper, "trivial") == []
    assert states(reaper, study.search_id) == [(0, "RUNNING")]
    assert extend(worker, claim)
