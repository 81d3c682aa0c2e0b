"""Every artifact has an owner, and goes when the owner does."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import boto3
import optuna
import pytest
from sqlalchemy import text

from coordinator.create import create_or_join
from coordinator.watch import step
from tests.support.s3 import S3Server
from tests.support.server import Server
from tests.support.studies import (
    create,
    expire,
    finish,
    store_model,
    take,
    take_all,
    train_by_hand,
    trivial_spec,
)
from trialfleet.artifacts import blobs
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import ArtifactStoreError
from trialfleet.store import leases, studies
from trialfleet.store.artifacts import checkpoints, owned
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study


@pytest.fixture(params=["database", "folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('s3').new_bucket()}/runs"
    return "database" if request.param == "database" else (tmp_path / "store").as_uri()


def stored(database: Database, url: str, tmp_path: Path) -> set[str]:
    """The names of all artifacts whose bytes are there."""
    if url.startswith("s3"):
        bucket = url.split("/")[2]
        found = boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
        return {each["Key"].removeprefix("runs/") for each in found}
    if url.startswith("file"):
        return {path.name for path in (tmp_path / "store").glob("*")}
    with database.transaction() as connection:
        return set(connection.scalars(text("SELECT blob_id FROM fleet.blobs")))


def save(database: Database, study: Study, claim: Claim, step: int) -> None:
    store = open_store(study.artifacts, database)
    checkpoints.save(database, store, study, claim, step=step, data=b"state")


def test_a_deleted_studys_artifacts_are_swept_and_its_neighbours_stay(
    database: Database, url: str, tmp_path: Path
) -> None:
    study = create_or_join(database, trivial_spec(trials=2, top=1), artifacts=url)
    neighbour = create_or_join(database, trivial_spec(name="neighbour"), artifacts=url)
    save(database, neighbour, take(database, "neighbour"), 8)
    kept = stored(database, url, tmp_path)
    for claim in take_all(database):
        train_by_hand(database, study, claim, scores=[1.0, 2.0])
    study = step(database, "trivial")
    claims = take_all(database)
    for claim, agents in zip(claims, (1, 2), strict=True):
        train_by_hand(database, study, claim, scores=[1.0] * agents)
    assert step(database, "trivial").stage == "done"
    assert len(stored(database, url, tmp_path) - kept) == 3  # two models, and the best agent
    optuna.delete_study(study_name="trivial", storage=database.optuna_storage())
    step(database, "neighbour")
    assert stored(database, url, tmp_path) == kept


def test_what_a_lost_attempt_has_stored_goes_with_it(
    database: Database, url: str, tmp_path: Path
) -> None:
    study = create_or_join(database, trivial_spec(), artifacts=url)
    claim = take(database)
    # A checkpoint that was refused, and a model of an attempt that never finished.
    owned.put(
        database,
        open_store(url, database),
        study,
        kind="checkpoint",
        label="late",
        data=b"x",
        claim=claim,
    )
    store_model(database, study, claim, 2)
    owned.sweep(database)
    assert len(stored(database, url, tmp_path)) == 2  # it may be just writing
    expire(database)
    leases.reap(database, study.name)
    owned.sweep(database)
    assert stored(database, url, tmp_path) == set()


def test_a_checkpoint_goes_when_its_trial_has_ended_and_not_before(
    database: Database, url: str, tmp_path: Path
) -> None:
    study = create_or_join(database, trivial_spec(), artifacts=url)
    claim = take(database)
    for at in (4, 8):
        save(database, study, claim, at)
    leases.release(database, claim)
    step(database, study.name)
    [name] = stored(database, url, tmp_path)
    assert "-checkpoint-" in name
    finish(database, take(database))
    step(database, study.name)
    assert stored(database, url, tmp_path) == set()


def test_a_sweep_leaves_what_takes_too_long_for_the_next(database: Database) -> None:
    for name in ("one", "two", "three"):
        study = create(database, name=name)
        save(database, study, take(database, name), 8)
        with database.transaction() as connection:  # as if its bytes lay somewhere else
            connection.execute(text("DELETE FROM fleet.blobs"))
        optuna.delete_study(study_name=name, storage=database.optuna_storage())
    assert [owned.sweep(database, seconds=0.0) for _ in range(3)] == [2, 1, 0]


def test_a_store_that_fails_is_asked_once_in_a_sweep(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = create(database, trials=3)
    for claim in take_all(database):
        save(database, study, claim, 8)
    optuna.delete_study(study_name=study.name, storage=database.optuna_storage())
    asked: list[str] = []

    def fail(_store: object, artifact: str) -> None:
        asked.append(artifact)
        raise ArtifactStoreError("away")

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "remove", fail)
        assert owned.sweep(database) == 3
    assert len(asked) == 1
    assert owned.sweep(database) == 0


def test_a_worker_that_wakes_up_and_writes_once_more_leaves_nothing(database: Database) -> None:
    study = create(database)
    claim = take(database)
    save(database, study, claim, 8)
    store = open_store("database", database)
    found = checkpoints.find(database, claim.trial_id)
    assert found is not None
    name = found[1].artifact
    finish(database, claim)
    step(database, study.name)
    blobs.put(store, name, b"late")
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE fleet.artifacts SET removed_at = removed_at - interval '2 hours'")
        )
    owned.sweep(database)
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM fleet.blobs")) == 0
        assert connection.scalar(text("SELECT count(*) FROM fleet.artifacts")) == 0


def test_a_store_that_fails_is_left_for_the_next_time(database: Database, tmp_path: Path) -> None:
    url = (tmp_path / "store").as_uri()
    study = create_or_join(database, trivial_spec(), artifacts=url)
    claim = take(database)
    save(database, study, claim, 8)
    finish(database, claim)
    (tmp_path / "store").rename(tmp_path / "aside")
    (tmp_path / "store").touch()
    with pytest.raises(ArtifactStoreError):
        blobs.remove(open_store(url, database), "any")
    step(database, study.name)
    (tmp_path / "store").unlink()
    (tmp_path / "aside").rename(tmp_path / "store")
    assert len(stored(database, url, tmp_path)) == 1
    step(database, study.name)
    assert stored(database, url, tmp_path) == set()


def test_two_databases_that_share_a_store_never_meet(server: Server, tmp_path: Path) -> None:
    url = (tmp_path / "store").as_uri()
    names = set()
    for _ in range(2):
        with server.fresh_database() as database_url:
            database = Database(database_url, application="tests")
            with database.transaction() as connection:
                # The template's copies share its identity; databases that were migrated do not.
                connection.execute(text("UPDATE fleet.identity SET id = :id"), {"id": uuid4()})
            study = create_or_join(database, trivial_spec(), artifacts=url)
            save(database, study, take(database), 8)
            names |= stored(database, url, tmp_path)
            database.close()
    assert len(names) == 2


def test_looking_at_a_study_opens_no_store_without_need(
    s3: S3Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = create_or_join(database, trivial_spec(), artifacts=f"s3://{s3.new_bucket()}")
    save(database, study, take(database), 8)

    def refused(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a look made a client")

    monkeypatch.setattr(boto3, "client", refused)
    for _ in range(3):
        step(database, study.name)
    assert studies.find(database, study.name).stage == "search"
