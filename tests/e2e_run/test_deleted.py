"""A study that somebody deletes while it runs ends everything that works for it, in one line."""

from __future__ import annotations

import optuna
import pytest
from sqlalchemy import text

from tests.support.processes import Commands
from tests.support.studies import trivial_study
from trialfleet.store.storage import Database

# Segments of some tens of milliseconds: reports in every one of them would now and then make
# PostgreSQL end a deletion by Optuna, which locks in another order, as a deadlock.
STUDY = trivial_study(name="deleted", train_steps=4_000_000, eval_every=10_000, trials=4)


@pytest.mark.parametrize("way", ["run", "coordinate"])
def test_a_deleted_study_ends_its_processes(
    commands: Commands, database: Database, way: str
) -> None:
    file = commands.study_file(STUDY)
    if way == "run":
        processes = [commands.start("run", file, "--workers", "1")]
    else:
        processes = [commands.start("coordinate", file), commands.start("worker", "deleted")]

    def training() -> bool:
        with database.transaction() as connection:
            return bool(connection.scalar(text("SELECT count(*) FROM fleet.metrics")))

    processes[0].wait_until(training)
    optuna.delete_study(study_name="deleted", storage=database.optuna_storage())
    for process in processes:
        process.expect(2)
        last = process.stderr.splitlines()[-1]
        assert last.startswith("trialfleet: ")
        assert "deleted" in last
        assert "Traceback" not in process.stderr
