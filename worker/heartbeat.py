"""A thread that extends the lease of the trial at hand and says that this worker is alive."""

from __future__ import annotations

import threading
import time

import structlog

from trialfleet.errors import LeaseLostError
from trialfleet.postgres.outages import is_down, is_outage
from trialfleet.store import leases, workers
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database

log = structlog.get_logger()

# Seconds between two beats at most: what a person who watches would call live.
_LONGEST_BEAT = 2.0


class Heartbeat(threading.Thread):
    """Beats until closed, whatever happens to single beats.

    When a lease could not be extended and its end has come on our side, `check` gives it up, before
    the database can have given it to another worker. There is one exception: while the server
    itself refuses connections nobody can take the trial, so the training goes on, and the database
    decides when it is back.

    Args:
        database: Shared with the worker; a beat takes a connection of its own.
        identity: The worker's columns of `fleet.workers` (worker, study, host, pid, version).
        lease_seconds: Length of the leases to extend.

    Attributes:
        crowded: Whether the server was running out of connections at the last beat. Idle ones are
            given back then at every beat: others may have been waiting for one since this worker
            opened its own.
    """

    def __init__(
        self, database: Database, *, identity: dict[str, object], lease_seconds: float
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._database = database
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._beat = min(_LONGEST_BEAT, lease_seconds / 3)
        self.crowded = False
        self._closed = threading.Event()
        self._claim: Claim | None = None
        self._lost = False
        self._down = False  # the server said so, at the last beat
        self._deadline = 0.0  # when the lease ends if it is not extended, on our clock
        self._agents = 1
        self._step = 0
        self._resumed = 0  # the step at which this attempt began
        self._since = 0.0  # when it began

    def hold(self, claim: Claim, *, since: float) -> None:
        """Extend this claim from now on.

        Args:
            claim: Ours.
            since: `time.monotonic()` from before it was asked for, so that our idea of the lease's
                end is never later than the database's.
        """
        self._lost, self._step, self._resumed = False, 0, 0
        self._deadline = since + self._lease_seconds
        self._since = since
        self._claim = claim

    def drop(self) -> None:
        """Extend nothing."""
        self._claim = None

    def resume(self, step: int) -> None:
        """Tell where this attempt begins, so that the pace shown is its own."""
        self._step, self._resumed, self._since = step, step, time.monotonic()

    def progress(self, step: int, *, agents: int) -> None:
        """Tell where the trial stands: environment steps of each of its `agents`."""
        self._step, self._agents = step, agents

    def check(self) -> None:
        """Return while the lease is ours, as far as can be known.

        Raises:
            LeaseLostError: It is not, or may not be.
        """
        if self._lost:
            raise LeaseLostError("the trial was given to another worker")
        if time.monotonic() > self._deadline and not self._down:
            raise LeaseLostError("the lease could not be extended in time")

    def run(self) -> None:
        """The thread's body."""
        while not self._closed.wait(self._beat):
            try:
                self.beat()
                self._down = False
            except Exception as exc:
                # A heartbeat that dies takes a healthy trial with it, so it survives everything.
                self._down = is_down(exc)
                level = log.debug if is_outage(exc) else log.warning
                level("heartbeat failed", error=(str(exc).splitlines() or [""])[0])

    def beat(self) -> None:
        """Extend the lease, if there is one, and say that we are alive."""
        claim, started = self._claim, time.monotonic()
        if claim is not None:
            extended = leases.extend(self._database, claim.fence)
            # Unless the trial was finished or dropped while we asked.
            if claim is self._claim:
                self._lost = not extended
                self._deadline = started + self._lease_seconds
        with self._database.transaction() as connection:
            workers.say_alive(
                connection,
                self._identity,
                trial_number=claim.number if claim else None,
                step=self._step if claim else None,
                steps_per_second=self._pace() if claim else None,
            )
        self.crowded = self._database.nearly_full()
        if self.crowded:
            self._database.close_idle()

    def _pace(self) -> float | None:
        """Agent-steps per second of this attempt."""
        done, seconds = self._step - self._resumed, time.monotonic() - self._since
        return done * self._agents / seconds if done > 0 and seconds > 0 else None

    def close(self) -> None:
        """Stop beating and say goodbye, if the database can hear it."""
        self._closed.set()
        self.join(timeout=1.0)
        try:
            with self._database.transaction() as connection:
                workers.say_goodbye(connection, str(self._identity["worker"]))
        except Exception as exc:
            log.debug("goodbye unheard", error=(str(exc).splitlines() or [""])[0])
