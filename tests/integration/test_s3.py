"""The artifact store in S3: what goes wrong there, and a study whose artifacts are all there."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from coordinator.create import create_or_join
from tests.faults.fleet import STEERED, WHOLE, Fleet
from tests.faults.processes import eventually
from tests.support.s3 import S3Server
from tests.support.studies import trivial_spec
from trialfleet.artifacts import blobs
from trialfleet.artifacts.s3 import S3Store
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import ArtifactStoreError, UsageError
from trialfleet.postgres.retry import patiently


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.new_bucket()


@pytest.fixture
def store(bucket: str) -> S3Store:
    return S3Store(bucket, "some/prefix")


def one_line(failed: pytest.ExceptionInfo[ArtifactStoreError]) -> str:
    line = str(failed.value)
    assert line.startswith("the artifact store failed: ")
    assert "\n" not in line
    assert "s3cret" not in line
    return line


def test_keys_begin_with_the_prefix(s3: S3Server, bucket: str) -> None:
    for url, key in (
        (f"s3://{bucket}", "model"),
        (f"s3://{bucket}/", "model"),
        (f"s3://{bucket}/some/prefix", "some/prefix/model"),
        (f"s3://{bucket}/some/prefix/", "some/prefix/model"),
    ):
        store = open_store(url, None)  # type: ignore[arg-type]  # only the database's needs one
        blobs.put(store, "model", url.encode())
        assert s3.objects(bucket) == {key: url.encode()}
        blobs.remove(store, "model")
        assert s3.objects(bucket) == {}


def test_a_missing_bucket_is_no_missing_artifact(s3: S3Server) -> None:
    # A worker would start over a trial whose checkpoint it takes for lost.
    store = S3Store("no-such-bucket", "")
    with pytest.raises(ArtifactStoreError) as failed:
        blobs.put(store, "model", b"1")
    assert "NoSuchBucket" in one_line(failed)
    with pytest.raises(ArtifactStoreError) as failed:
        blobs.get(store, blobs.Stored(artifact="model", sha256="0" * 64, size=1))
    assert "NoSuchBucket" in one_line(failed)
    with pytest.raises(ArtifactStoreError) as failed:
        blobs.remove(store, "model")
    assert "NoSuchBucket" in one_line(failed)


def test_a_server_that_is_away_is_waited_for(s3: S3Server, store: S3Store) -> None:
    stored = blobs.put(store, "model", b"1")
    pauses: list[float] = []
    s3.stop()
    try:
        for operation in (
            lambda: blobs.get(store, stored),
            lambda: blobs.put(store, "model", b"2"),
            lambda: blobs.remove(store, "model"),
        ):
            with pytest.raises(ArtifactStoreError) as failed:
                operation()
            assert "Could not connect" in one_line(failed)

        def come_back(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                s3.start()

        again = patiently(lambda: blobs.put(store, "model", b"3"), patience=60.0, pause=come_back)
        assert len(pauses) == 2
    finally:
        if len(pauses) < 2:
            s3.start()
    assert blobs.get(store, again) == b"3"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("AWS_ENDPOINT_URL", "nonsense", "Invalid endpoint: nonsense"),
        ("AWS_DEFAULT_REGION", "not a region", "not a region"),
    ],
)
def test_a_wrong_setting_of_boto3s_is_told_at_once(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=says) as refused:
        S3Store("bucket", "")
    assert str(refused.value).startswith("TRIALFLEET_ARTIFACTS: s3://bucket: ")


@pytest.fixture
def fleet(s3: S3Server, database_url: URL, tmp_path: Path) -> Iterator[Fleet]:
    opened = Fleet(database_url, tmp_path)
    yield opened
    opened.close()


def test_a_preempted_trial_goes_on_from_its_checkpoint_in_s3_and_its_model_ends_there(
    s3: S3Server, bucket: str, fleet: Fleet
) -> None:
    spec = trivial_spec(**{**STEERED, "trials": 1, "final_seeds": 1})
    study = create_or_join(fleet.database, spec, artifacts=f"s3://{bucket}/runs")
    preempted = fleet.worker(steer="slow")
    claim = fleet.claimed(preempted)
    fleet.trained(claim.trial_id)
    preempted.send(signal.SIGTERM)
    assert preempted.ends() == 143
    # One generation, and nothing of it in the database.
    [key] = s3.objects(bucket)
    assert key.startswith("runs/trivial-search-0-checkpoint-")
    heir = fleet.worker()
    heir.says("resumed")
    eventually(lambda: fleet.outcomes(0) == ["released", "finished"], "the heir finishes the trial")
    ended = fleet.ends()
    assert fleet.curve(claim.trial_id) == WHOLE
    fleet.replays(0)
    # The checkpoints are gone, the models are there, and the best agent is one of them.
    assert ended.result is not None
    model = ended.result["model"]
    found = s3.objects(bucket)
    assert not [key for key in found if "checkpoint" in key]
    [final] = fleet.database.optuna_study(study.final_name).get_trials()
    assert f"runs/{final.user_attrs['model']['artifact']}" in found
    best = found[f"runs/{model['artifact']}"]
    assert hashlib.sha256(best).hexdigest() == model["sha256"]
    assert fleet.rows("SELECT blob_id FROM fleet.blobs") == []
    saved = fleet.start("best", study.name, "--out", "models")
    assert saved.ends() == 0, saved.output
    assert (fleet.folder / "models" / "trivial.safetensors").read_bytes() == best
