"""Stored bytes that would run if they were unpickled: row 26 of the faults."""

from __future__ import annotations

import signal
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from coordinator.watch import step
from tests.faults.fleet import WHOLE, Fleet
from tests.faults.malice import malicious
from tests.faults.processes import eventually
from tests.support.commands import command, told
from tests.support.models import seal
from tests.support.studies import (
    create,
    finish,
    take,
    train_by_hand,
)
from trialfleet.artifacts import blobs
from trialfleet.artifacts.database import DatabaseStore
from trialfleet.store.storage import Database

OWN = "SELECT 1 FROM fleet.checkpoints WHERE sha256 <> :sha256"
DRESSES = list(malicious(Path("marker")))


def test_26_a_malicious_checkpoint_is_never_executed(fleet: Fleet) -> None:
    study = fleet.create(trials=1)
    marker = fleet.folder / "executed"
    store = DatabaseStore(fleet.database)
    worker = fleet.worker(steer="slow")
    claim = fleet.claimed(worker)
    fleet.trained(claim.trial_id, segments=1)
    for data in malicious(marker, digest=study.digest).values():
        worker.send(signal.SIGTERM)
        assert worker.ends() == 143, worker.output
        # In the checkpoint's place, and its SHA-256 with it: whoever can write the one can write
        # the other.
        [kept] = fleet.rows("SELECT artifact FROM fleet.checkpoints")
        stored = blobs.put(store, kept.artifact, data)
        fleet.execute(
            "UPDATE fleet.checkpoints SET sha256 = :sha256, size = :size",
            steering=True,
            sha256=stored.sha256,
            size=stored.size,
        )
        worker = fleet.worker(steer="slow")
        worker.says("checkpoint damaged, starting over")
        assert not marker.exists()
        eventually(partial(fleet.rows, OWN, sha256=stored.sha256), "it has one of its own")
    worker.steer("")
    fleet.ends()
    assert worker.ends() == 0
    assert fleet.curve(claim.trial_id) == WHOLE
    assert fleet.outcomes(0) == ["released"] * len(DRESSES) + ["finished"]
    assert not marker.exists()


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.usefixtures("_here")
def test_26_a_malicious_model_is_never_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dress: str
) -> None:
    marker = tmp_path / "executed"
    data = malicious(marker)[dress]
    for name in ("agent.pt", "agent.pkl", "agent.safetensors"):
        seal(tmp_path / name, data)
        assert command("evaluate", name) == 2
        line = told(capsys)
        assert name in line
        assert "safetensors" in line
    assert not marker.exists()


@pytest.mark.parametrize("dress", DRESSES)
def test_26_a_malicious_model_of_the_final_stage_is_never_executed(
    database: Database, tmp_path: Path, dress: str
) -> None:
    marker = tmp_path / "executed"
    study = create(database, trials=1, top=1, final_seeds=1)
    train_by_hand(database, study, take(database), scores=[1.0, 1.0])
    step(database, study.name)
    claim = take(database)
    data = malicious(marker)[dress]
    model = asdict(blobs.put(DatabaseStore(database), "model", data))
    provenance = {"versions": {}, "device": "cpu", "model": model}
    finish(database, claim, attributes={"scores": [1.0], "seeds": [1], **provenance})
    if dress == "safetensors around a pickle":
        step(database, study.name)  # one array of numbers, which nobody will take for a network
    else:
        assert step(database, study.name).stage == "final"
        assert take(database).number == claim.number + 1  # trained again
    assert not marker.exists()
