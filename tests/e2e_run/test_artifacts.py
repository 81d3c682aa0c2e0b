"""A run whose artifact folder cannot be written."""

from __future__ import annotations

from sqlalchemy import text

from tests.support.invariants import check_invariants
from tests.support.processes import Commands
from tests.support.studies import trivial_study
from trialfleet.store.storage import Database


def test_a_run_says_what_its_workers_wait_for_and_goes_on(
    commands: Commands, database: Database
) -> None:
    blocked = commands.folder / "artifacts"
    blocked.write_text("a file in the folder's place")
    file = commands.study_file(trivial_study(trials=1, top=1, final_seeds=1))
    store = {"TRIALFLEET_ARTIFACTS": (blocked / "here").as_uri()}
    run = commands.start("run", file, "--workers", "1", env=store)
    run.wait_until(lambda: "workers wait" in run.stderr)
    assert "the artifact store failed: " in run.stderr
    assert "Not a directory" in run.stderr
    blocked.unlink()
    run.expect(0)
    assert run.stderr.count("workers wait") == 1
    check_invariants(database, "trivial")
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM fleet.attempts")) == 2
