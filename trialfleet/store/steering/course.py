"""Where a study goes from here: stopped, extended, retried, paused, resumed.

Each is one transaction that holds the study's lock (`studies.lock`), under which claims are made
and the final stage begins. So a claim sees the study as it was before or as it is after, and the
budget stays exact, whoever does what at the same time.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from trialfleet.errors import SteeringError
from trialfleet.store import leases, studies
from trialfleet.store.steering import adding
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import optuna_rows, reading

# What ends by a stop has not failed by itself: it is not one of those that may.
STOP = text("""
    UPDATE fleet.studies SET stopped = coalesce(stopped, :reason),
        max_failures = max_failures + :ended
    WHERE search_id = :search_id
""")
PAUSE = text("""
    UPDATE fleet.studies SET paused_at = coalesce(paused_at, now()) WHERE search_id = :search_id
""")
RESUME = text("""
    UPDATE fleet.studies SET paused_at = NULL,
        paused_seconds = paused_seconds + extract(epoch FROM now() - paused_at)
    WHERE search_id = :search_id AND paused_at IS NOT NULL
""")
# Whom a rule has stopped, somebody has now told to go on.
EXTEND = text("""
    UPDATE fleet.studies SET stage = 'search', budget = :budget, rules = rules AND stopped IS NULL,
        stopped = NULL, final_id = NULL, result = NULL, reason = NULL, ended_at = NULL
    WHERE search_id = :search_id
""")
# What failed before is not counted again.
RETRY = text("""
    UPDATE fleet.studies SET stage = 'search', max_failures = :max_failures, final_id = NULL,
        result = NULL, reason = NULL, ended_at = NULL
    WHERE search_id = :search_id
""")
RETIRE = text("""
    INSERT INTO fleet.former_finals
        (search_id, final_id, edition, budget, result, reason, ended_at)
    SELECT search_id, final_id, finals, budget, result, reason, coalesce(ended_at, now())
    FROM fleet.studies WHERE search_id = :search_id
""")
COUNT_FINALS = text("""
    UPDATE fleet.studies SET finals = finals + 1 WHERE search_id = :search_id
""")


def stop(database: Database, study: Study, reason: str, *, now: bool = False) -> Study:
    """End the search: no trial of it begins any more, and the final stage comes next.

    Args:
        database: Of this process.
        study: Whose search is not over.
        reason: For people.
        now: End the trials under way, too, instead of waiting for them.

    Returns:
        The study as it stands then. Stopped before, it keeps its first reason.

    Raises:
        SteeringError: Its search is over.
        StudyDeletedError: It is gone.
    """
    with database.transaction() as connection:
        found = studies.lock(connection, study)
        if found.stage != "search":
            raise SteeringError(f"the search of {study.name!r} is over (it is at {found.stage!r})")
        why = f"the search was stopped: {reason}"
        ended = leases.abandon(connection, study.search_id, why, unbegun_only=not now)
        values = {"search_id": study.search_id, "reason": reason, "ended": ended}
        connection.execute(STOP, values)
    return studies.read_again(database, study)


def pause(database: Database, study: Study) -> None:
    """Let nobody claim a trial of it; those under way run to their end. May be repeated.

    Raises:
        SteeringError: It has ended.
        StudyDeletedError: It is gone.
    """
    with database.transaction() as connection:
        _refuse_ended(studies.lock(connection, study))
        connection.execute(PAUSE, {"search_id": study.search_id})


def resume(database: Database, study: Study) -> None:
    """Let its trials be claimed again. May be repeated.

    Raises:
        SteeringError: It has ended.
        StudyDeletedError: It is gone.
    """
    with database.transaction() as connection:
        _refuse_ended(studies.lock(connection, study))
        connection.execute(RESUME, {"search_id": study.search_id})


def extend(database: Database, study: Study, trials: int) -> Study:
    """Let the search have `trials` trials that count in all, whether it is over or not.

    One that is over goes on, and has its final stage anew later, on other fresh seeds: the one that
    it had stays as Optuna's study NAME.final.1 (2, 3, …), with what it found.

    Returns:
        The study as it stands then.

    Raises:
        SteeringError: It has as many already, there is nothing more to try, or too many trials
            have failed.
        VersionMismatchError, StudyMismatchError: This version cannot go on with it.
        StudyDeletedError: It is gone.
    """
    studies.refuse_unusable(study)
    with database.transaction() as connection:
        found = studies.lock(connection, study)
        budget = trials + found.imported
        counts = reading.count(connection, study.search_id)
        there = counts.counted + counts.pending
        least = there if found.stopped or found.stage != "search" else max(there, found.budget)
        if budget <= least:
            raise SteeringError(
                f"--trials: {trials} is not more than the {least - found.imported} that"
                f" {study.name!r} has; give a greater number, or stop it with `trialfleet stop`"
            )
        visits = adding.visited(connection, found)
        if visits is not None and trials > visits.most:
            raise SteeringError(
                f"--trials: {trials} is more than the {visits.most} configurations that"
                f" {study.name!r} has to try, each once; give at most {visits.most}"
            )
        if counts.failed > found.max_failures:
            raise SteeringError(
                f"{counts.failed} trials of {study.name!r} failed, more than its"
                f" search.max_failures ({found.max_failures}); `trialfleet retry {study.name}` goes"
                " on with it, once the cause is mended"
            )
        if found.final_id is not None:
            _retire(connection, found, "extended")
        connection.execute(EXTEND, {"search_id": study.search_id, "budget": budget})
    return studies.read_again(database, study)


def retry(database: Database, study: Study) -> Study:
    """Let a study that has failed go on, once its cause is mended.

    Finished is final: trials that have failed stay so, others take their place, and
    `search.max_failures` more may fail. A final stage that failed stays as Optuna's study
    NAME.final.1 (2, 3, …), and there is another one, on other fresh seeds.

    Returns:
        The study as it stands then.

    Raises:
        SteeringError: It has not failed, or has nothing to try again.
        VersionMismatchError, StudyMismatchError: This version cannot go on with it.
        StudyDeletedError: It is gone.
    """
    studies.refuse_unusable(study)
    with database.transaction() as connection:
        found = studies.lock(connection, study)
        if found.stage != "failed":
            raise SteeringError(f"study {study.name!r} has not failed (it is at {found.stage!r})")
        counts = reading.count(connection, study.search_id)
        over = counts.counted >= found.budget or found.stopped is not None
        if over and found.final_id is None and counts.failed <= found.max_failures:
            raise SteeringError(
                f"{found.reason}; no trial of {study.name!r} is left to try again, and `trialfleet"
                f" extend {study.name} --trials {found.asked + 1}` (or more) gives it others"
            )
        if found.final_id is not None:
            _retire(connection, found, "retried")
        most = counts.failed + found.spec.search.max_failures
        connection.execute(RETRY, {"search_id": study.search_id, "max_failures": most})
    return studies.read_again(database, study)


def _retire(connection: Connection, study: Study, why: str) -> None:
    """Make the final stage a former one; what of it is under way ends."""
    assert study.final_id is not None
    leases.abandon(connection, study.final_id, f"the study was {why}")
    connection.execute(RETIRE, {"search_id": study.search_id})
    connection.execute(COUNT_FINALS, {"search_id": study.search_id})
    former = f"{study.final_name}.{study.finals + 1}"
    if reading.names_taken(connection, [former]):
        raise SteeringError(
            f"an Optuna study called {former!r} exists that Trialfleet did not create"
        )
    optuna_rows.rename_study(connection, study.final_id, former)


def _refuse_ended(study: Study) -> None:
    if study.ended:
        raise SteeringError(f"study {study.name!r} has ended")
