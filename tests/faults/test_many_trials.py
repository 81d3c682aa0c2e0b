"""A study of 80,000 trials: every command that people give it comes to its end."""

from __future__ import annotations

import time

import pytest

from tests.faults.fleet import STUDY, Fleet
from tests.support.bulk import fill
from trialfleet.store import studies

TRIALS = 80_000


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_a_study_of_80_000_trials_is_created_listed_reported_extended_and_deleted(
    fleet: Fleet,
) -> None:
    def timed(*arguments: str, within: float = 60.0) -> str:
        began = time.monotonic()
        process = fleet.start(*arguments)
        assert process.ends(within=300.0) == 0, process.output
        seconds = time.monotonic() - began
        print(f"{' '.join(arguments):60} {seconds:6.1f} s")
        assert seconds < within
        return process.output

    file = fleet.study_file(STUDY, trials=TRIALS + 10)
    assert f"{TRIALS + 10} trials" in timed("submit", str(file))
    study = studies.find(fleet.database, STUDY)
    fill(fleet.database, study, trials=TRIALS, points=12)
    assert STUDY in timed("status")
    timed("status", STUDY)
    timed("logs", STUDY, "7")
    timed("report", STUDY, "-o", "report.html", "--csv", "trials.csv", within=240.0)
    assert len((fleet.folder / "trials.csv").read_text().splitlines()) > TRIALS
    timed("enqueue", STUDY, "gamma=0.95")
    timed("pause", STUDY)
    timed("resume", STUDY)
    assert f"{TRIALS + 20} trials" in timed("extend", STUDY, "--trials", str(TRIALS + 20))
    timed("stop", STUDY)
    told = timed("delete", STUDY, "--yes")
    assert f"of {TRIALS:,} trials deleted" in told or "deleted" in told
    assert studies.find_all(fleet.database) == []
    assert fleet.rows("SELECT 1 FROM public.trials LIMIT 1") == []
