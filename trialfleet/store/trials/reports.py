"""What a trial reports while it trains: its intermediate values and metrics, in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from trialfleet.store.leases import Claim, refusals
from trialfleet.store.metrics import Metric, array_text
from trialfleet.store.storage import Database

# The function says what it locks, and why: migrations/functions/attempts.sql.
REPORT = text("""
    SELECT * FROM fleet.report(:fence, :trial_id, :sent,
        CAST(:steps AS bigint[]), CAST(:returns AS float8[]), CAST(:metric_steps AS bigint[]),
        CAST(:metric_names AS text[]), CAST(:metric_values AS text[]))
""")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What the database says to a report."""

    stored: int  # the attempt's last step that is stored; behind what was sent if a crash lost some
    finished: int  # how many trials of the study have finished


def send(
    database: Database,
    claim: Claim,
    *,
    sent: int,
    returns: Sequence[tuple[int, float]],
    metrics: Sequence[Metric],
) -> Receipt:
    """Store reports and extend the lease; sending them again changes nothing.

    It is acknowledged before it is safe from a crash of the server: keep what was sent until the
    trial has ended, and send again what is past `Receipt.stored`.

    Args:
        database: Of this process.
        claim: Ours.
        sent: The last step that was acknowledged in this attempt, or that it began at.
        returns: Step and mean return of each evaluation, oldest first; at least one.
        metrics: All that they measured.

    Raises:
        LeaseLostError: The trial is another worker's by now; nothing was written.
        StudyDeletedError: It is gone, and its study with it.
    """
    steps, means = zip(*returns, strict=True)
    values = {
        "fence": claim.fence,
        "trial_id": claim.trial_id,
        "sent": sent,
        "steps": [*steps],
        "returns": [*means],
        "metric_steps": [metric.step for metric in metrics],
        "metric_names": [metric.name for metric in metrics],
        "metric_values": [array_text(metric.values) for metric in metrics],
    }
    with refusals():
        (row,) = database.call(REPORT, values)
    return Receipt(stored=row.stored, finished=row.finished)
