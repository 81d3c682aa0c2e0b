"""The artifact stores: what is written comes back, whole and checked, or an error says so."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import download_artifact, upload_artifact
from optuna.artifacts._protocol import ArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import text

from tests.support.studies import create, take
from trialfleet.artifacts import blobs
from trialfleet.artifacts.blobs import CHUNK
from trialfleet.artifacts.database import DatabaseStore
from trialfleet.artifacts.folder import FolderStore
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import ArtifactStoreError, BlobDamagedError, UsageError
from trialfleet.store.storage import Database

SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7]


@pytest.fixture(params=["database", "file", "s3", "s3-prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "file":
        # A folder that is not there yet, with characters that a URL has to escape.
        url = (tmp_path / "a folder" / "100%").as_uri()
    elif request.param == "database":
        return open_store("database", request.getfixturevalue("database"))
    else:
        bucket = request.getfixturevalue("s3").new_bucket()
        url = f"s3://{bucket}" + ("/some/prefix/" if request.param == "s3-prefix" else "")
    return open_store(url, None)  # type: ignore[arg-type]  # only the database's needs one


def read(store: ArtifactStore, artifact: str) -> bytes:
    with store.open_reader(artifact) as reader:
        return reader.read()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_put_comes_back(store: ArtifactStore, size: int) -> None:
    data = os.urandom(size)
    stored = blobs.put(store, "model", data)
    assert stored.size == size
    assert blobs.get(store, stored) == data
    assert read(store, "model") == data


@pytest.mark.parametrize("size", SIZES)
def test_a_blob_is_stored_in_chunks(database: Database, size: int) -> None:
    blobs.put(DatabaseStore(database), "model", bytes(size))
    with database.transaction() as connection:
        sizes = connection.scalars(
            text("SELECT length(data) FROM fleet.blob_chunks ORDER BY position")
        ).all()
    assert sum(sizes) == size
    assert all(length == CHUNK for length in sizes[:-1])
    assert len(sizes) == -(-size // CHUNK)


def test_a_second_write_replaces_the_first(store: ArtifactStore) -> None:
    first = blobs.put(store, "model", b"1" * (2 * CHUNK))
    second = blobs.put(store, "model", b"2")
    assert blobs.get(store, second) == b"2"
    with pytest.raises(BlobDamagedError, match="SHA-256"):
        blobs.get(store, first)


def test_writers_of_one_artifact_are_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where each of them is process 1, as in a container."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    store = FolderStore(tmp_path)

    class Slow(io.BytesIO):
        """Bytes during which another writer begins and ends."""

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            if not data:
                store.write("model", io.BytesIO(b"theirs"))
            return data

    store.write("model", Slow(b"ours"))
    assert read(store, "model") == b"ours"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_artifacts_do_not_mix(store: ArtifactStore) -> None:
    stored = {name: blobs.put(store, name, name.encode()) for name in ("a", "b")}
    store.remove("a")
    assert blobs.get(store, stored["b"]) == b"b"


def test_what_is_missing_is_not_found(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactNotFound):
        store.open_reader("model")
    stored = blobs.put(store, "model", b"1")
    store.remove("model")
    store.remove("model")
    with pytest.raises(ArtifactNotFound):
        store.open_reader("model")
    with pytest.raises(BlobDamagedError, match="not in the store"):
        blobs.get(store, stored)


@pytest.mark.parametrize(
    "damage",
    [
        # One bit; a chunk too few; two chunks in the other's place.
        "UPDATE fleet.blob_chunks SET data = set_bit(data, 12345, 1 - get_bit(data, 12345)) "
        "WHERE position = 1",
        "DELETE FROM fleet.blob_chunks WHERE position = 1",
        "UPDATE fleet.blob_chunks SET position = -1 WHERE position = 1",
    ],
)
def test_damage_in_the_database_is_noticed(database: Database, damage: str) -> None:
    store = DatabaseStore(database)
    stored = blobs.put(store, "model", os.urandom(2 * CHUNK + 3))
    with database.transaction() as connection:
        assert connection.execute(text(damage)).rowcount == 1
    with pytest.raises(BlobDamagedError, match="does not match its SHA-256"):
        blobs.get(store, stored)


@pytest.mark.parametrize("keep", [0, 5, -1])
def test_damage_of_a_file_is_noticed(tmp_path: Path, keep: int) -> None:
    store = FolderStore(tmp_path)
    stored = blobs.put(store, "model", b"0123456789")
    path = tmp_path / "model"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BlobDamagedError, match="does not match its SHA-256"):
        blobs.get(store, stored)


class Interrupted(io.BytesIO):
    """Gives one chunk, then fails like a connection that breaks."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError("the network is gone")
        return super().read(size)


def test_an_interrupted_write_leaves_the_old_blob(store: ArtifactStore) -> None:
    stored = blobs.put(store, "model", b"old")
    with pytest.raises(OSError, match="network"):
        store.write("model", Interrupted(bytes(3 * CHUNK)))
    assert blobs.get(store, stored) == b"old"


def test_an_interrupted_first_write_leaves_nothing(store: ArtifactStore) -> None:
    with pytest.raises(OSError, match="network"):
        store.write("model", Interrupted(bytes(3 * CHUNK)))
    with pytest.raises(ArtifactNotFound):
        store.open_reader("model")
    if isinstance(store, FolderStore):
        assert list(store._folder.iterdir()) == []


def test_a_blob_is_seen_whole_or_not_at_all(open_database: Callable[[], Database]) -> None:
    writer, reader = open_database(), open_database()

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            with pytest.raises(ArtifactNotFound):
                DatabaseStore(reader).open_reader("model")
            return super().read(size)

    DatabaseStore(writer).write("model", Watched(bytes(2 * CHUNK)))
    assert read(DatabaseStore(reader), "model") == bytes(2 * CHUNK)


def test_a_store_that_is_full_or_read_only_is_ours_to_tell(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtifactStoreError, match="the artifact store failed"):
        blobs.put(FolderStore(tmp_path / "file"), "model", b"1")


# None of them is the path of anything: a store that took one for a path would write to it.
NO_NAMES = [
    *("", ".", "..", "../model", "/no/such/folder/model", "a/b", "a\\b", "a\0b"),
    *("line\nbreak", "\x1b[31m", "right \u202e left", "m" * 600, "ü" * 101, "\ud800"),
]


@pytest.mark.parametrize("name", NO_NAMES, ids=[ascii(name)[:20] for name in NO_NAMES])
def test_what_is_no_plain_name_is_refused(store: ArtifactStore, name: str) -> None:
    with pytest.raises(ArtifactNotFound, match="is not the name of an artifact"):
        store.write(name, io.BytesIO(b"1"))
    with pytest.raises(ArtifactNotFound, match="is not the name of an artifact"):
        store.open_reader(name)
    with pytest.raises(ArtifactNotFound, match="is not the name of an artifact"):
        store.remove(name)


@pytest.mark.parametrize("name", ["..", "../model", "{folder}/model", "a/b"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactNotFound):
        FolderStore(tmp_path / "store").write(name.format(folder=tmp_path), io.BytesIO(b"1"))
    assert list(tmp_path.rglob("*")) == []


# What a shell, SQL, a URL or a terminal would stumble over, and two names that only look equal.
NAMES = [
    "'; DROP TABLE fleet.blobs; --",
    '"quoted" $(id) `id` %s %(x)s {0}',
    "<script>alert(1)</script>".replace("/", "|"),
    "caf\u00e9",
    "cafe\u0301",
    "100% a+b?c=d&e#f",
    "~",
    "m" * 200,
]


def test_hostile_names_are_kept_to_the_letter(store: ArtifactStore) -> None:
    stored = [blobs.put(store, name, name.encode()) for name in NAMES]
    assert [blobs.get(store, each) for each in stored] == [name.encode() for name in NAMES]
    for name in NAMES[1:]:
        store.remove(name)
    assert blobs.get(store, stored[0]) == NAMES[0].encode()
    for each in stored[1:]:
        with pytest.raises(BlobDamagedError, match="not in the store"):
            blobs.get(store, each)


@pytest.mark.parametrize(
    "url",
    [
        *("", "Database", "file://host/folder", "file:folder", "s3://", "/folder", "gs://b"),
        *("s3://a bucket", "s3://user:secret@bucket", "s3://-/x", "s3://b"),
    ],
)
def test_what_is_no_store_is_refused(database: Database, url: str) -> None:
    with pytest.raises(UsageError, match="TRIALFLEET_ARTIFACTS"):
        open_store(url, database)


def test_optunas_own_artifacts_work_with_it(
    database: Database, store: ArtifactStore, tmp_path: Path
) -> None:
    study = create(database)
    claim = take(database)
    storage = database.optuna_storage(claim.fence)
    source, target = tmp_path / "agent.bin", tmp_path / "again.bin"
    source.write_bytes(os.urandom(CHUNK + 1))
    trial = optuna.Trial(database.optuna_study(study.name, storage=storage), claim.trial_id)
    artifact = upload_artifact(artifact_store=store, file_path=str(source), study_or_trial=trial)
    download_artifact(artifact_store=store, artifact_id=artifact, file_path=str(target))
    assert target.read_bytes() == source.read_bytes()
