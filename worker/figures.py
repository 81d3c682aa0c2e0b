"""What a worker measures of its service, for the coordinator's metrics."""

from __future__ import annotations

from bisect import bisect_left

from trialfleet.store.workers import CLAIM_BUCKETS


class Figures:
    """How long the worker has waited for its trials.

    Attributes:
        claims: How many claims took as long as each bucket says, and last the longer ones.
        claim_seconds: The sum of their times.
    """

    def __init__(self) -> None:
        self.claims = [0] * (len(CLAIM_BUCKETS) + 1)
        self.claim_seconds = 0.0

    def claimed(self, seconds: float) -> None:
        """Record how many seconds a claim took, waiting for the database included."""
        self.claims[bisect_left(CLAIM_BUCKETS, seconds)] += 1
        self.claim_seconds += seconds
