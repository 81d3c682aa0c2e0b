"""One coordinator and one worker for every study; the trials are finished by hand."""

from __future__ import annotations

import gc
from pathlib import Path
from uuid import uuid4

import pytest
from optuna.trial import FrozenTrial
from sqlalchemy import URL, text

from coordinator.fleet import Fleet
from coordinator.monitoring.exposition import look_at_all
from coordinator.monitoring.notices import Notices
from coordinator.report import data
from tests.support.commands import command, told
from tests.support.invariants import check_invariants
from tests.support.server import plain
from tests.support.studies import LEASE, create, take_all, train_by_hand, trivial_study
from trialfleet.errors import ArtifactStoreError, DatabaseUnavailableError, UsageError
from trialfleet.settings import Settings
from trialfleet.store import studies
from trialfleet.store.leases import Claim
from trialfleet.store.steering import course
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.serving import EveryStudy

SETTINGS = Settings(poll_seconds=0.05, outage_patience=0.0)


def never(_seconds: float) -> None:
    raise AssertionError("there is nothing to wait for")


def train_everything(database: Database, name: str) -> None:
    study = studies.find(database, name)
    for claim in take_all(database, name):
        agents = 2
        if claim.stage == "final":
            trials = database.optuna_study(study.final_name).get_trials()
            agents = len(trials[claim.number].user_attrs["seeds"])
        train_by_hand(database, study, claim, scores=[float(claim.number)] * agents)


def test_every_study_is_kept_and_those_that_come_later(database: Database) -> None:
    ended: list[str] = []
    sent: list[tuple[str, str]] = []
    fleet = Fleet(
        database,
        settings=SETTINGS,
        pause=never,
        make_notices=lambda: Notices(
            database, lambda notice: sent.append((notice["study"], notice["event"]))
        ),
        ended=lambda study: ended.append(study.name),
    )
    fleet.look()
    for names in (("one", "two"), ("three",)):
        for name in names:
            create(database, name=name, trials=2)
        fleet.look()
        for _ in range(2):
            for name in names:
                train_everything(database, name)
            fleet.look()
        fleet.look()
    assert ended == ["one", "two", "three"]
    assert [each for each in sent if each[1] == "end"] == [(name, "end") for name in ended]
    for name in ended:
        check_invariants(database, name)
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM fleet.leaders")) == 0


def test_what_is_wrong_with_one_study_is_not_the_others_trouble(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("unreadable", "foreign", "storeless", "deleted", "sound"):
        create(database, name=name, trials=1, top=1, final_seeds=1)
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE fleet.studies SET compatibility = 0 WHERE name = 'foreign'")
        )
        connection.execute(text("UPDATE fleet.studies SET spec = '{' WHERE name = 'unreadable'"))
    fleet = Fleet(database, settings=SETTINGS, pause=never)
    fleet.look()
    database.optuna_storage().delete_study(studies.find(database, "deleted").search_id)
    from coordinator import watch

    step = watch.step

    def failing(database: Database, name: str) -> Study:
        if name == "storeless":
            raise ArtifactStoreError("the bucket is gone")
        return step(database, name)

    monkeypatch.setattr(watch, "step", failing)
    for _ in range(3):
        fleet.look()
        train_everything(database, "sound")
    fleet.look()
    assert studies.find(database, "sound").stage == "done"
    said = capsys.readouterr().out
    assert said.count("the bucket is gone") == 1, "once, however often it is met"
    assert said.count("compatibility 0") == 1
    assert said.count("study deleted") == 1


def test_a_database_that_stays_away_ends_the_coordinator(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(database)

    def away(self: object) -> None:
        raise DatabaseUnavailableError("gone")

    monkeypatch.setattr("coordinator.watch.Keeper.look", away)
    with pytest.raises(DatabaseUnavailableError):
        Fleet(database, settings=SETTINGS, pause=never).run()


def test_the_metrics_of_every_study_are_one_page(database: Database) -> None:
    for name in ("one", "two"):
        create(database, name=name)
    metrics = {metric.name: metric for metric in look_at_all(database, errors=2).collect()}
    budget = metrics["trialfleet_trials_budget"]
    assert [sample.labels["study"] for sample in budget.samples] == ["one", "two"]


def claim_of(database: Database, source: EveryStudy) -> Claim:
    claim = source.claim("hand", uuid4(), LEASE)
    assert claim is not None
    return claim


def test_a_study_that_a_worker_cannot_work_for_is_left_to_others(
    database: Database, tmp_path: Path
) -> None:
    create(database, name="bad")
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.studies SET digest = 'another'"))
    source = EveryStudy(database)
    claim = claim_of(database, source)
    assert source.served(claim) is None
    assert source.claim("hand", uuid4(), LEASE) is None
    create(database, name="good")
    claim = claim_of(database, source)
    served = source.served(claim)
    assert served is not None
    assert served.study.name == "good"
    assert source.served(claim) is served
    # What happens with one study's artifacts is that study's; a lost database is everybody's.
    assert not source.outlives(served, DatabaseUnavailableError("gone"))
    assert source.outlives(served, ArtifactStoreError("full"))
    assert source.claim("hand", uuid4(), LEASE) is None


def test_a_study_that_was_made_anew_under_its_name_is_read_anew(database: Database) -> None:
    source = EveryStudy(database)
    study = create(database, seed=1)
    first = source.served(claim_of(database, source))
    database.optuna_storage().delete_study(study.search_id)
    create(database, seed=2)
    second = source.served(claim_of(database, source))
    assert first is not None
    assert second is not None
    assert (first.study.spec.seed, second.study.spec.seed) == (1, 2)


def test_studies_are_submitted_with_their_priority(
    database: Database,
    database_url: URL,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text("priority = 4\n" + trivial_study(trials=3))
    assert command("submit", "study.toml", "--set", "search.trials=5") == 0
    assert capsys.readouterr().out == (
        "trivial: submitted, 5 trials, priority 4; `trialfleet status trivial` shows how it goes\n"
    )
    assert command("submit", "study.toml", "--set", "search.trials=5", "--priority", "2") == 0
    assert "is there already, 5 trials, priority 2;" in capsys.readouterr().out
    assert studies.find(database, "trivial").priority == 2
    # Without --priority its weight stays, and the file's own joins whatever the weight is now.
    assert command("submit", "study.toml", "--set", "search.trials=5") == 0
    assert "priority 2" in capsys.readouterr().out
    assert command("submit", "study.toml") == 2
    assert "search.trials: 5 there, 3 here" in told(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["study.toml", "--all"], "--all goes with neither a study file nor --set or --stay"),
        (["--all", "--stay"], "--all goes with neither"),
        ([], "give a study file, or --all"),
    ],
)
def test_a_coordinator_keeps_one_study_or_all(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("coordinate", *arguments) == UsageError.exit_code
    assert said in told(capsys)


def test_a_coordinator_keeps_no_trial_of_a_study_that_has_ended(database: Database) -> None:
    def remembered() -> int:
        gc.collect()
        return sum(isinstance(each, FrozenTrial) for each in gc.get_objects())

    fleet = Fleet(
        database, settings=SETTINGS, pause=never, ended=lambda study: data.read(database, study)
    )
    before = remembered()
    for name in ("one", "two", "extended", "deleted"):
        study = create(database, name=name, trials=2)
        fleet.look()
        for _ in range(2):
            train_everything(database, name)
            fleet.look()
            if name == "extended" and studies.find(database, name).finals == 0:
                course.extend(database, study, 3)
                train_everything(database, name)
                fleet.look()
        if name == "deleted":
            assert remembered() == before
            course.extend(database, study, 3)
            train_everything(database, name)
            fleet.look()
            assert remembered() > before
            database.optuna_storage().delete_study(study.search_id)
        fleet.look()
    assert remembered() == before


def test_workers_that_belong_to_no_study_are_forgotten_after_a_day(database: Database) -> None:
    create(database)
    rows = [("old", "", "25 hours"), ("recent", "", "1 hour"), ("its own", "trivial", "1 year")]
    rows += [("of a study that is gone", "gone", "25 hours")]
    with database.transaction() as connection:
        for worker, study, ago in rows:
            connection.execute(
                text("""
                    INSERT INTO fleet.workers (worker, study, host, pid, version, seen_at)
                    VALUES (:worker, :study, 'here', 1, '0', now() - CAST(:ago AS interval))
                """),
                {"worker": worker, "study": study, "ago": ago},
            )
    Fleet(database, settings=SETTINGS, pause=never).look()
    with database.transaction() as connection:
        left = connection.scalars(text("SELECT worker FROM fleet.workers ORDER BY worker")).all()
    assert left == ["its own", "recent"]
