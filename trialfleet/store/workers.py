"""Who is there: the rows of `fleet.workers`, for people who watch. Nothing is decided from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from trialfleet.errors import StudyDeletedError
from trialfleet.postgres.database import Postgres

# The function says what it asks: migrations/versions/0008_calls.py.
BEAT = text("""
    SELECT * FROM fleet.beat(:fence, :worker, :study, :host, :pid, :version,
        :trial_number, :step, :steps_per_second)
""")
SAY_GOODBYE = text("UPDATE fleet.workers SET ended_at = now() WHERE worker = :worker")
# A worker says every two seconds that it is alive; one that has been silent for a minute is gone.
LIVE = text("""
    SELECT worker, host, trial_number, step, steps_per_second,
           extract(epoch FROM now() - seen_at) AS silent
    FROM fleet.workers
    WHERE study = :study AND ended_at IS NULL AND seen_at > now() - interval '1 minute'
    ORDER BY started_at, worker
""")
# A trial given back is as it was before.
KEPT_A_TRIAL = text("""
    SELECT EXISTS (
        SELECT FROM fleet.attempts
        WHERE starts_with(worker, :prefix) AND outcome IS DISTINCT FROM 'released'
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
) -> Pulse:
    """Extend a worker's lease, if it has one, and tell that it lives and where its trial stands.

    Args:
        database: Of this process.
        identity: The worker's own columns: worker, study, host, pid, version.
        fence: Of its lease; None while it is idle, as the next three.
        trial_number: Optuna's.
        step: Environment steps of each agent of the trial.
        steps_per_second: Agent-steps per second of this attempt.

    Raises:
        StudyDeletedError: The trial is gone, and its study with it.
    """
    values = {
        **identity,
        "fence": fence,
        "trial_number": trial_number,
        "step": step,
        "steps_per_second": steps_per_second,
    }
    (row,) = database.call(BEAT, values)
    if row.deleted:
        raise StudyDeletedError("the study of the trial at hand was deleted")
    return Pulse(extended=row.extended, crowded=bool(row.crowded))


def say_goodbye(connection: Connection, worker: str) -> None:
    """Tell that a worker has ended."""
    connection.execute(SAY_GOODBYE, {"worker": worker})


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


def kept_a_trial(connection: Connection, prefix: str) -> bool:
    """Whether a worker whose name begins like this has claimed a trial and not given it back."""
    return bool(connection.scalar(KEPT_A_TRIAL, {"prefix": prefix}))
