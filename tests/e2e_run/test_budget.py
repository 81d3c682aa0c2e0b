"""Many workers on a study whose trials take no time: the budget is exact and numbers are dense."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import text

from tests.support.invariants import check_invariants
from tests.support.processes import Commands
from tests.support.studies import states, trivial_study
from trialfleet.store import studies
from trialfleet.store.storage import Database


def test_eight_workers_run_exactly_two_hundred_trials(
    commands: Commands, database: Database
) -> None:
    file = commands.study_file(trivial_study(name="many", seeds=1, trials=200, final_seeds=8))
    commands.run("run", file, "--workers", "8")
    check_invariants(database, "many")
    study = studies.find(database, "many")
    assert states(database, study.search_id) == [(number, "COMPLETE") for number in range(200)]
    with database.transaction() as connection:
        done = Counter(connection.scalars(text("SELECT worker FROM fleet.attempts")))
        # Nobody took a trial twice, and everybody had a part.
        assert connection.scalar(text("SELECT count(*) FROM fleet.attempts")) == 200 + 16
    assert len(done) == 8
