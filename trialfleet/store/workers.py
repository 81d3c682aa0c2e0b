"""Who is there: the rows of `fleet.workers`, for people who watch. Nothing is decided from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from trialfleet.errors import StudyDeletedError
from trialfleet.postgres.database import Postgres
from trialfleet.postgres.outages import is_locked

# Upper ends, in seconds, of the buckets of the time that a worker waits for a trial.
CLAIM_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

# The function says what it asks: migrations/functions/attempts.sql.
BEAT = text("""
    SELECT * FROM fleet.beat(:fence, :worker, :study, :host, :pid, :version,
        :trial_number, :step, :steps_per_second,
        CAST(:claims AS bigint[]), :claim_seconds, :database_errors)
""")
SAY_GOODBYE = text("""
    UPDATE fleet.workers
    SET ended_at = now(), claims = CAST(:claims AS bigint[]), claim_seconds = :claim_seconds,
        database_errors = :database_errors
    WHERE worker = :worker
""")
# A worker says every two seconds that it is alive; one that has been silent for a minute is gone.
LIVE = text("""
    SELECT worker, host, trial_number, step, steps_per_second,
           extract(epoch FROM now() - seen_at) AS silent
    FROM fleet.workers
    WHERE study = :study AND ended_at IS NULL AND seen_at > now() - interval '1 minute'
    ORDER BY started_at, worker
""")
FIGURES = text("""
    SELECT coalesce(sum(claim_seconds), 0) AS claim_seconds,
           coalesce(sum(database_errors), 0)::bigint AS database_errors
    FROM fleet.workers WHERE study = :study
""")
CLAIMS = text("""
    SELECT c.place, sum(c.claims)::bigint AS claims
    FROM fleet.workers, unnest(claims) WITH ORDINALITY AS c (claims, place)
    WHERE study = :study GROUP BY c.place
""")
_TRIFLE = 0.1  # seconds to wait for a lock of what is only shown
# A worker of a study is part of its figures, and goes with it. One of a fleet that serves none when
# it ends is part of nothing.
FORGET_GONE = text("""
    DELETE FROM fleet.workers WHERE worker IN (
        SELECT worker FROM fleet.workers w
        WHERE w.seen_at < now() - interval '1 day'
          AND NOT EXISTS (SELECT FROM fleet.studies s WHERE s.name = w.study)
        FOR UPDATE SKIP LOCKED
    )
""")
# A trial given back is as it was before.
KEPT_A_TRIAL = text("""
    SELECT EXISTS (
        SELECT FROM fleet.attempts
        WHERE worker = :worker AND outcome IS DISTINCT FROM 'released'
    )
""")


@dataclass(frozen=True, kw_only=True)
class LiveWorker:
    """One live worker."""

    name: str
    host: str
    trial: int | None  # its trial's number; None when idle
    step: int  # environment steps of each agent of that trial
    steps_per_second: float  # over all agents of that trial; 0 before the first report
    silent: float  # seconds since its last heartbeat


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a worker has measured since it began, or all workers of a study together."""

    claims: Sequence[int]  # how many claims took as long as each of CLAIM_BUCKETS, then the rest
    claim_seconds: float  # the sum of their times
    database_errors: int  # calls that failed because the database was away, or in a deadlock


NOTHING = Measured(claims=[0] * (len(CLAIM_BUCKETS) + 1), claim_seconds=0.0, database_errors=0)


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """What a worker hears when it says that it is alive."""

    extended: bool  # its lease reaches to its full length from now
    crowded: bool  # the server is running out of connections


def beat(
    database: Postgres,
    identity: Mapping[str, object],
    *,
    fence: int | None = None,
    trial_number: int | None = None,
    step: int | None = None,
    steps_per_second: float | None = None,
    measured: Measured = NOTHING,
) -> Pulse:
    """Extend a worker's lease, if it has one, and tell that it lives and where its trial stands.

    Args:
        database: Of this process.
        identity: The worker's own columns: worker, study, host, pid, version.
        fence: Of its lease; None while it is idle, as the next three.
        trial_number: Optuna's.
        step: Environment steps of each agent of the trial.
        steps_per_second: Agent-steps per second of this attempt.
        measured: By this worker, since it began.

    Raises:
        StudyDeletedError: The trial is gone, and its study with it.
    """
    values = {
        **identity,
        "fence": fence,
        "trial_number": trial_number,
        "step": step,
        "steps_per_second": steps_per_second,
        **_values(measured),
    }
    (row,) = database.call(BEAT, values)
    if row.deleted:
        raise StudyDeletedError("the study of the trial at hand was deleted")
    return Pulse(extended=row.extended, crowded=bool(row.crowded))


def _values(measured: Measured) -> dict[str, object]:
    return {
        "claims": [*measured.claims],
        "claim_seconds": measured.claim_seconds,
        "database_errors": measured.database_errors,
    }


def say_goodbye(connection: Connection, worker: str, measured: Measured = NOTHING) -> None:
    """Tell that a worker has ended, and what it has measured."""
    connection.execute(SAY_GOODBYE, {"worker": worker, **_values(measured)})


def measured(connection: Connection, study: str) -> Measured:
    """What all workers that the study ever had have measured."""
    claims = [*NOTHING.claims]
    for row in connection.execute(CLAIMS, {"study": study}):
        claims[min(row.place, len(claims)) - 1] += row.claims
    total = connection.execute(FIGURES, {"study": study}).one()
    return Measured(
        claims=claims, claim_seconds=total.claim_seconds, database_errors=total.database_errors
    )


def live(connection: Connection, study: str) -> list[LiveWorker]:
    """The study's workers that are there now, the oldest first."""
    return [
        LiveWorker(
            name=row.worker,
            host=row.host,
            trial=row.trial_number,
            step=row.step or 0,
            steps_per_second=row.steps_per_second or 0.0,
            silent=float(row.silent),
        )
        for row in connection.execute(LIVE, {"study": study})
    ]


def forget_gone(database: Postgres) -> None:
    """Forget the workers that were last seen a day ago, and belong to no study.

    Where somebody has the table locked, that is left for the next time.
    """
    try:
        database.call(FORGET_GONE, lock_seconds=_TRIFLE)
    except OperationalError as exc:
        if not is_locked(exc):
            raise


def kept_a_trial(connection: Connection, worker: str) -> bool:
    """Whether a worker has claimed a trial and not given it back."""
    return bool(connection.scalar(KEPT_A_TRIAL, {"worker": worker}))
