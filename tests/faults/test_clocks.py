"""Clocks and time zones that are wrong: row 14 of the faults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.faults.fleet import LEASE, STUDY, WHOLE, Fleet
from tests.faults.processes import Process, eventually

HOUR = 3600
ZONE = "America/New_York"  # with summer time, and hours from UTC at any time of the year

# Every time that is stored, beside the database's own; those of Optuna are naive UTC.
STORED = """
    SELECT 'trial starts' AS what, datetime_start AT TIME ZONE 'utc' AS at FROM public.trials
    UNION ALL SELECT 'trial ends', datetime_complete AT TIME ZONE 'utc' FROM public.trials
    UNION ALL SELECT 'claimed', claimed_at FROM fleet.attempts
    UNION ALL SELECT 'attempt ends', ended_at FROM fleet.attempts
    UNION ALL SELECT 'lease ends', expires_at - lease FROM fleet.attempts
    UNION ALL SELECT 'seen', seen_at FROM fleet.workers
    UNION ALL SELECT 'study ends', ended_at FROM fleet.studies
"""


def _logged_at(process: Process) -> datetime:
    """The time of its first line."""
    return datetime.fromisoformat(process.output.split()[0])


def _outlasts_its_lease(fleet: Fleet, process: Process) -> None:
    """Wait until it has trained one trial for longer than a lease that nobody extends."""
    claim = fleet.claimed(process)
    longer = (
        "SELECT now() > claimed_at + 1.2 * lease AS so FROM fleet.attempts WHERE fence = :fence"
    )
    eventually(lambda: fleet.rows(longer, fence=claim.fence)[0].so, "longer than a lease")
    assert fleet.outcomes(claim.number) == [None]


def _nothing_was_lost(fleet: Fleet, *workers: Process) -> None:
    for worker in workers:
        worker.steer("")
    fleet.ends()
    for worker in workers:
        assert worker.ends() == 0
    for attempt in (*fleet.attempts(), *fleet.attempts(final=True)):
        assert attempt.outcome == "finished"
    for number in range(2):
        assert fleet.curve(fleet.attempts(number)[0].trial_id) == WHOLE
    # In whatever zone this process itself is.
    [clock] = fleet.rows("SELECT now() AS now")
    for stored in fleet.rows(STORED):
        age = clock.now - stored.at
        assert timedelta(seconds=-2 * LEASE) < age < timedelta(seconds=120), stored


def test_14_worker_clocks_an_hour_off(fleet: Fleet) -> None:
    fleet.create(trials=2)
    early = fleet.worker(steer="slow", FAULTS_CLOCK=str(-HOUR))
    late = fleet.worker(steer="slow", FAULTS_CLOCK=str(HOUR))
    # It reaps too, and by its own clock every lease would have ended long ago.
    fleet.start("coordinate", _file(fleet), FAULTS_CLOCK=str(HOUR))
    for worker in (early, late):
        _outlasts_its_lease(fleet, worker)
    off = (_logged_at(late) - _logged_at(early)).total_seconds()
    assert abs(off - 2 * HOUR) < 60, "their clocks are not wrong at all"
    _nothing_was_lost(fleet, early, late)


def test_14_a_zone_with_summer_time(fleet: Fleet) -> None:
    # The server's default, the session's by libpq's variable, and the machine's own.
    [name] = fleet.rows("SELECT current_database() AS name")
    fleet.execute(f"ALTER DATABASE {name.name} SET timezone = '{ZONE}'")
    fleet.database.close_idle()
    assert fleet.rows("SELECT current_setting('timezone') AS zone")[0].zone == ZONE
    fleet.create(trials=2)
    there = fleet.worker(steer="slow", PGTZ=ZONE, TZ=ZONE)
    here = fleet.worker(steer="slow", PGTZ="UTC")
    fleet.start("coordinate", _file(fleet), PGTZ=ZONE, TZ=ZONE)
    for worker in (there, here):
        _outlasts_its_lease(fleet, worker)
    _nothing_was_lost(fleet, there, here)
    now = datetime.now(UTC).replace(tzinfo=None)
    for trial in fleet.database.optuna_study(STUDY).get_trials():
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        assert timedelta() < now - trial.datetime_start < timedelta(seconds=120)
        assert trial.datetime_start < trial.datetime_complete


def _file(fleet: Fleet) -> str:
    """The study's file."""
    return str(fleet.study_file(trials=2))
