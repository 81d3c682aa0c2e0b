"""A study is deleted or extended between any two questions of whoever has read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Connection

from coordinator.fleet import Fleet
from coordinator.monitoring.exposition import look_at_all
from coordinator.monitoring.notices import Notices
from coordinator.report import data
from coordinator.result import conclude
from coordinator.watch import Keeper
from tests.support.invariants import check_invariants
from tests.support.studies import create, take, take_all, train_by_hand
from trialfleet.artifacts import blobs
from trialfleet.artifacts.blobs import Stored
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import LeaseLostError, StudyNotFoundError
from trialfleet.settings import Settings
from trialfleet.store import studies
from trialfleet.store.steering import course
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.configuration import open_trial

SETTINGS = Settings(poll_seconds=0.05, outage_patience=0.0)


def meanwhile(database: Database, number: int, event: Callable[[], object]) -> Callable[[], bool]:
    """Let `event` happen before this process asks the database for the `number`-th time.

    Returns:
        Says whether it has happened.
    """
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        if asked == number:
            event()

    transaction, one_moment, call = database.transaction, database.one_moment, database.call

    @contextmanager
    def counted(
        opening: Callable[..., AbstractContextManager[Connection]], *arguments: Any
    ) -> Iterator[Connection]:
        ask()
        with opening(*arguments) as connection:
            yield connection

    def counted_call(*arguments: Any, **more: Any) -> Any:
        ask()
        return call(*arguments, **more)

    database.transaction = lambda *a: counted(transaction, *a)  # type: ignore[method-assign]
    database.one_moment = lambda: counted(one_moment)  # type: ignore[method-assign]
    database.call = counted_call  # type: ignore[method-assign]
    return lambda: asked >= number


def train_all(database: Database, study: Study) -> None:
    """Finish whatever there is to train."""
    for claim in take_all(database, study.name):
        agents = 2
        if claim.stage == "final":
            final_id = studies.find(database, study.name).final_id
            assert final_id is not None
            agents = len(database.trials(final_id)[claim.number].user_attrs["seeds"])
        train_by_hand(database, study, claim, scores=[float(claim.number)] * agents)


def bring_to(database: Database, stage: str, *, name: str, race: bool) -> Study:
    """A study all of whose trials have ended that there are at this stage."""
    study = create(
        database, name=name, trials=2, top=2, race=race, final_seeds=4, confirm=2 if race else 0
    )
    keeper = Keeper(database, name, settings=SETTINGS)
    train_all(database, study)
    for _ in range({"search": 0, "final": 1, "end": 2}[stage]):
        keeper.look()
        train_all(database, study)
    keeper.resign()
    return studies.find(database, name)


def delete(database: Database, study: Study) -> None:
    database.optuna_storage().delete_study(study.search_id)


@pytest.mark.parametrize("stage", ["search", "final", "end"])
@pytest.mark.parametrize("race", [False, True])
def test_a_study_deleted_at_any_moment_of_a_look_is_deleted_and_no_more(
    open_database: Callable[[], Database], stage: str, race: bool
) -> None:
    other = open_database()
    for number in count(1):
        database = open_database()
        study = bring_to(other, stage, name=f"s{number}", race=race)
        notices = Notices(database, lambda notice: None)
        keeper = Keeper(database, study.name, settings=SETTINGS, notices=notices)
        happened = meanwhile(database, number, partial(delete, other, study))
        try:
            keeper.look()
        except StudyNotFoundError:
            assert happened()
        keeper.resign()
        database.close()
        if not happened():
            return
    raise AssertionError("a look has an end")


@pytest.mark.parametrize("stage", ["search", "final", "end"])
@pytest.mark.parametrize("race", [False, True])
def test_a_study_extended_at_any_moment_of_a_look_goes_on(
    open_database: Callable[[], Database], stage: str, race: bool
) -> None:
    other = open_database()
    for number in count(1):
        database = open_database()
        study = bring_to(other, stage, name=f"s{number}", race=race)
        keeper = Keeper(database, study.name, settings=SETTINGS)
        happened = meanwhile(database, number, partial(course.extend, other, study, 3))
        keeper.look()
        if not happened():
            return
        for _ in range(6):
            train_all(other, study)
            keeper.look()
        ended = studies.find(other, study.name)
        assert ended.stage == "done"
        assert ended.asked == 3
        check_invariants(other, study.name)
        database.close()
    raise AssertionError("a look has an end")


@pytest.mark.parametrize("stage", ["search", "final", "end"])
def test_a_report_of_a_study_deleted_meanwhile_says_so(
    open_database: Callable[[], Database], stage: str
) -> None:
    other = open_database()
    for number in count(1):
        database = open_database()
        study = bring_to(other, stage, name=f"s{number}", race=True)
        happened = meanwhile(database, number, partial(delete, other, study))
        try:
            data.read(database, study)
        except StudyNotFoundError:
            assert happened()
        look_at_all(database, errors=0)
        database.close()
        if not happened():
            return
    raise AssertionError("a report has an end")


def test_who_read_a_study_before_its_extension_writes_nothing_of_the_next_final_stage(
    database: Database,
) -> None:
    stale = bring_to(database, "final", name="trivial", race=False)
    keeper = Keeper(database, "trivial", settings=SETTINGS)
    ended = keeper.look()
    assert ended.result is not None
    before = Stored(**{key: ended.result["model"][key] for key in ("artifact", "sha256", "size")})
    course.extend(database, ended, 3)
    train_all(database, stale)
    keeper.look()
    train_all(database, stale)
    assert studies.find(database, "trivial").final_id != stale.final_id
    conclude(database, stale)
    store = open_store(stale.artifacts, database)
    assert blobs.get(store, before), "the former final stage's best agent is as it was"
    after = keeper.look()
    assert after.result is not None
    assert after.result["model"]["artifact"] != before.artifact


def test_a_worker_opens_its_trial_in_the_study_that_it_claimed_it_from(
    database: Database,
) -> None:
    first = create(database, trials=2)
    delete(database, first)
    second = create(database, trials=2, seed=9)
    claim = take(database, second.name)
    storage = database.optuna_storage(claim.fence)
    how = {"device": "cpu", "compiled": False, "lanes": 1}
    with pytest.raises(StudyNotFoundError):
        open_trial(database, first, claim, storage=storage, **how)  # type: ignore[arg-type]
    opened = open_trial(database, second, claim, storage=storage, **how)  # type: ignore[arg-type]
    assert opened.job.seeds


def test_a_final_trial_of_a_study_extended_since_is_another_lease_lost(database: Database) -> None:
    study = bring_to(database, "search", name="trivial", race=False)
    Keeper(database, "trivial", settings=SETTINGS).look()
    claim = take(database)
    assert claim.stage == "final"
    course.extend(database, studies.find(database, "trivial"), 3)
    storage = database.optuna_storage(claim.fence)
    how = {"device": "cpu", "compiled": False, "lanes": 1}
    with pytest.raises(LeaseLostError):
        open_trial(database, study, claim, storage=storage, **how)  # type: ignore[arg-type]


def test_an_error_nobody_has_foreseen_is_one_study_s_and_is_said_with_its_traceback(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from coordinator import watch

    for name in ("broken", "sound"):
        create(database, name=name, trials=1, top=1, final_seeds=1)
    step, looks = watch.step, 0

    def failing(database: Database, name: str) -> Study:
        nonlocal looks
        if name == "broken":
            looks += 1
            raise KeyError("nobody knows")
        return step(database, name)

    monkeypatch.setattr(watch, "step", failing)
    fleet = Fleet(database, settings=SETTINGS, pause=lambda seconds: None)
    sound = studies.find(database, "sound")
    for _ in range(3):
        fleet.look()
        train_all(database, sound)
    fleet.look()
    assert studies.find(database, "sound").stage == "done"
    said = capsys.readouterr().out
    assert said.count("cannot keep a study going") == 1
    assert "in failing" in said
    assert looks == 1, "it is left alone for a while"
    monkeypatch.setattr("coordinator.fleet.time.monotonic", lambda: 1e12)
    monkeypatch.setattr(watch, "step", step)
    train_all(database, studies.find(database, "broken"))
    fleet.look()
    assert studies.find(database, "broken").stage == "final", "and goes on once it can"
