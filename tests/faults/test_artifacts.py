"""An artifact store that fails, and bytes that are not what they were: rows 15 and 16."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from coordinator.watch import step
from tests.faults.fleet import STUDY, WHOLE, Fleet
from tests.faults.processes import eventually
from tests.support.studies import take, train_by_hand
from trialfleet.store import leases
from trialfleet.store.studies import Study


class Folder:
    """A folder as artifact store, which can be made to fail in ways that a file system knows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._undo = ExitStack()
        path.mkdir()

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def fill(self) -> None:
        """A file system with no space left."""
        self._mount("-t", "tmpfs", "-o", "size=64k", "none")
        with (self.path / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def freeze(self) -> None:
        """A file system that is read-only."""
        if os.geteuid() == 0:  # whom a folder's permissions do not stop
            self._mount("-t", "tmpfs", "-o", "ro", "none")
        else:
            self.path.chmod(0o500)
            self._undo.callback(self.path.chmod, 0o700)

    def spoil(self) -> None:
        """No folder any more: a mount that went away and left something else."""
        aside = self.path.with_name("aside")
        self.path.rename(aside)
        self.path.touch()
        self._undo.callback(aside.rename, self.path)
        self._undo.callback(self.path.unlink)

    def mend(self) -> None:
        """As it was before."""
        self._undo.close()

    def _mount(self, *options: str) -> None:
        done = subprocess.run(["mount", *options, self.path], check=False, capture_output=True)
        if done.returncode != 0:
            pytest.skip("only root may mount a file system")
        unmount = ["umount", "--lazy", str(self.path)]
        self._undo.callback(lambda: subprocess.run(unmount, check=True))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "store")
    yield made
    made.mend()


FAILURES: dict[str, tuple[Callable[[Folder], None], str]] = {
    "full": (Folder.fill, "No space left on device"),
    "read-only": (Folder.freeze, "Read-only file system|Permission denied"),
    "failing": (Folder.spoil, "exists|Not a directory"),
}


def _final(fleet: Fleet, artifacts: str) -> Study:
    """A study at its final stage, which is one trial."""
    study = fleet.create(artifacts=artifacts, trials=1)
    train_by_hand(fleet.database, study, take(fleet.database), scores=[1.0, 2.0])
    study = step(fleet.database, STUDY)
    assert study.stage == "final"
    return study


def _model(fleet: Fleet) -> bool:
    query = "SELECT 1 FROM public.trial_user_attributes WHERE key = 'model'"
    return bool(fleet.rows(query))


@pytest.mark.parametrize(
    "failure", ["full", "read-only", pytest.param("failing", marks=pytest.mark.slow)]
)
def test_15_no_final_trial_is_complete_without_its_model(
    fleet: Fleet, folder: Folder, failure: str
) -> None:
    _final(fleet, folder.url)
    worker = fleet.worker(steer="slow")
    claim = fleet.claimed(worker, final=True)
    fleet.trained(claim.trial_id)
    fail, reason = FAILURES[failure]
    fail(folder)
    worker.says("no checkpoint")  # and it trains on
    worker.steer("")
    worker.says("artifact store away, waiting")
    assert any(words in worker.output for words in reason.split("|"))
    assert fleet.state(claim.trial_id) == "RUNNING"
    assert fleet.curve(claim.trial_id) == WHOLE
    assert not _model(fleet)
    folder.mend()
    fleet.ends()
    assert worker.ends() == 0
    assert fleet.outcomes(0, final=True) == ["finished"]


def test_15_a_store_that_stays_away_ends_the_worker_with_its_own_code(
    fleet: Fleet, folder: Folder
) -> None:
    _final(fleet, folder.url)
    worker = fleet.worker(steer="slow", outage_patience="1")
    claim = fleet.claimed(worker, final=True)
    fleet.trained(claim.trial_id)
    folder.spoil()
    worker.steer("")
    assert worker.ends() == 6
    error = worker.output.splitlines()[-1]
    assert error.startswith("trialfleet: the artifact store failed: ")
    assert "Give the artifact store space, rights or its server back" in error
    assert "Traceback" not in worker.output
    # Nothing is wrong with the trial: another worker may have a better way to the store.
    assert fleet.outcomes(0, final=True) == ["released"]
    folder.mend()
    heir = fleet.worker()
    fleet.ends()
    assert "resumed" in heir.output
    assert fleet.outcomes(0, final=True) == ["released", "finished"]


def test_15_sigterm_while_it_waits_for_the_store(fleet: Fleet, folder: Folder) -> None:
    _final(fleet, folder.url)
    folder.spoil()
    worker = fleet.worker()
    worker.says("artifact store away, waiting")
    worker.send(signal.SIGTERM)
    assert worker.ends() == 143
    assert fleet.outcomes(0, final=True) == ["released"]
    folder.mend()
    fleet.worker()
    fleet.ends()


def test_15_the_coordinator_waits_for_the_store_too(fleet: Fleet, folder: Folder) -> None:
    _final(fleet, folder.url)
    fleet.worker()
    complete = "SELECT 1 FROM fleet.attempts WHERE outcome = 'finished' HAVING count(*) = 2"
    eventually(lambda: fleet.rows(complete), "the final trial is complete")
    folder.spoil()
    coordinator = fleet.coordinator(trials=1)
    coordinator.says("artifact store away, waiting")
    assert fleet.rows("SELECT stage FROM fleet.studies")[0].stage == "final"
    folder.mend()
    assert coordinator.ends() == 0
    fleet.ends()


def test_15_the_database_as_a_store_that_is_full(fleet: Fleet) -> None:
    _final(fleet, "database")
    # What PostgreSQL says when its own disk is full, wherever only artifacts are written.
    for statement in (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
        "'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$",
        "CREATE TRIGGER disk BEFORE INSERT ON fleet.blob_chunks EXECUTE FUNCTION refuse()",
    ):
        fleet.execute(statement)
    worker = fleet.worker()
    worker.says("away, waiting")
    assert "No space left on device" in worker.output
    assert fleet.outcomes(0, final=True) == [None]
    fleet.execute("DROP TRIGGER disk ON fleet.blob_chunks")
    fleet.ends()
    assert worker.ends() == 0
    assert fleet.outcomes(0, final=True) == ["finished"]


def _truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    """One bit, in a number: the file is as well-formed as before."""
    at = len(data) - 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_truncate, id="truncated"),
        pytest.param(_flip, id="flipped"),
        pytest.param(None, id="gone", marks=pytest.mark.slow),
    ],
)
def test_16_a_damaged_checkpoint_is_noticed(
    fleet: Fleet, folder: Folder, damage: Callable[[bytes], bytes] | None
) -> None:
    fleet.create(artifacts=folder.url, trials=1)
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim)
    fleet.trained(claim.trial_id, segments=4)
    victim.kill()
    query = "SELECT artifact FROM fleet.checkpoints WHERE trial_id = :trial_id"
    [stored] = fleet.rows(query, trial_id=claim.trial_id)
    path = folder.path / stored.artifact
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    _starts_over(fleet, claim.fence, "is not in the store" if damage is None else "SHA-256")


@pytest.mark.slow
def test_16_a_damaged_checkpoint_in_the_database(fleet: Fleet) -> None:
    fleet.create(trials=1)
    victim = fleet.worker(steer="slow")
    claim = fleet.claimed(victim)
    fleet.trained(claim.trial_id, segments=4)
    victim.kill()
    fleet.execute(
        "UPDATE fleet.blob_chunks SET data = set_bit(data, 8 * length(data) - 9, "
        "1 - get_bit(data, 8 * length(data) - 9))"
    )
    _starts_over(fleet, claim.fence, "SHA-256")


def _starts_over(fleet: Fleet, fence: int, reason: str) -> None:
    """Let another worker have the trial; its result must be that of an uninterrupted run."""
    fleet.expire(fence)
    leases.reap(fleet.database, STUDY)
    heir = fleet.worker(steer="block")
    claim = fleet.claimed(heir)
    # Before it trains, nothing is left of what the damaged checkpoint stood for.
    eventually(lambda: not fleet.curve(claim.trial_id), "it starts clean")
    assert fleet.checkpoint(claim.trial_id) is None
    heir.steer("")
    fleet.ends()
    assert heir.ends() == 0
    assert "checkpoint damaged, starting over" in heir.output
    assert reason in heir.output
    assert "resumed" not in heir.output
    assert fleet.outcomes(0) == ["lost", "finished"]
    assert fleet.curve(fleet.attempts(0)[0].trial_id) == WHOLE
    fleet.replays(0)
