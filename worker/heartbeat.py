"""A thread that extends the lease of the trial at hand and says that this worker is alive."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from trialfleet.errors import LeaseLostError
from trialfleet.postgres.outages import is_down, is_outage
from trialfleet.store import workers
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.workers import Measured
from worker.figures import Figures

log = structlog.get_logger()

# Seconds between two beats at most: what a person who watches would call live.
_LONGEST_BEAT = 2.0


@dataclass
class _Held:
    """What is known of one lease. A beat that comes late writes to that of its own claim."""

    claim: Claim
    deadline: float  # when the lease ends if it is not extended, on our clock
    lost: bool = False


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
        on_stall: Called, from this thread and at every beat, while the trainer of the trial at hand
            keeps its thread for longer than it may.

    Attributes:
        figures: What the worker measures; every beat tells it.
        crowded: Whether the server was running out of connections at the last beat. Idle ones are
            given back then at every beat: others may have been waiting for one since this worker
            opened its own.
    """

    def __init__(
        self,
        database: Database,
        *,
        identity: dict[str, object],
        lease_seconds: float,
        on_stall: Callable[[Claim], None],
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._database = database
        self._identity = identity
        self._study = str(identity["study"])
        self._lease_seconds = lease_seconds
        self._beat = min(_LONGEST_BEAT, lease_seconds / 3)
        self.figures = Figures()
        self.crowded = False
        self._closed = threading.Event()
        self._on_stall = on_stall
        self._held: _Held | None = None
        self._down = False  # the server said so, at the last beat
        self._overdue = math.inf  # when the trainer's code has to be back
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
        self._step, self._resumed, self._since = 0, 0, since
        self._held = _Held(claim, since + self._lease_seconds)

    def serve(self, study: str) -> None:
        """Tell for which study this worker works from now on."""
        self._study = study

    @property
    def claim(self) -> Claim | None:
        """What it extends."""
        held = self._held
        return held.claim if held else None

    def drop(self) -> None:
        """Extend nothing."""
        self._held = None

    def resume(self, step: int) -> None:
        """Tell where this attempt begins, so that the pace shown is its own."""
        self._step, self._resumed, self._since = step, step, time.monotonic()

    def progress(self, step: int, *, agents: int) -> None:
        """Tell where the trial stands: environment steps of each of its `agents`."""
        self._step, self._agents = step, agents

    @contextmanager
    def training(self, seconds: float) -> Iterator[None]:
        """Inside runs the trainer's code, and the environment's; it may take so many seconds."""
        self._overdue = time.monotonic() + seconds
        process = os.getpid()
        try:
            yield
        finally:
            if os.getpid() != process:
                os._exit(1)  # a forked child that was not ended: the trial is its parent's
            self._overdue = math.inf

    def check(self) -> None:
        """Return while the lease is ours, as far as can be known.

        Raises:
            LeaseLostError: It is not, or may not be.
        """
        held = self._held
        if held is None:
            return
        if held.lost:
            raise LeaseLostError("the trial was given to another worker")
        if time.monotonic() > held.deadline and not self._down:
            raise LeaseLostError("the lease could not be extended in time")

    def run(self) -> None:
        """The thread's body."""
        while not self._closed.wait(self._beat):
            try:
                self.beat()
                self._down = False
                held = self._held
                if held is not None and time.monotonic() > self._overdue:
                    self._on_stall(held.claim)
            except Exception as exc:
                # A heartbeat that dies takes a healthy trial with it, so it survives everything.
                self._down = is_down(exc)
                level = log.debug if is_outage(exc) else log.warning
                level("heartbeat failed", error=(str(exc).splitlines() or [""])[0])

    def beat(self) -> None:
        """Extend the lease, if there is one, and say that we are alive."""
        held, started = self._held, time.monotonic()
        claim = held.claim if held else None
        pulse = workers.beat(
            self._database,
            {**self._identity, "study": self._study},
            fence=claim.fence if claim else None,
            trial_number=claim.number if claim else None,
            step=self._step if claim else None,
            steps_per_second=self._pace() if claim else None,
            measured=self._measured(),
        )
        if held is not None:
            held.lost = not pulse.extended
            held.deadline = started + self._lease_seconds
        self.crowded = pulse.crowded
        if self.crowded:
            self._database.close_idle()

    def _pace(self) -> float | None:
        """Agent-steps per second of this attempt."""
        done, seconds = self._step - self._resumed, time.monotonic() - self._since
        return done * self._agents / seconds if done > 0 and seconds > 0 else None

    def _measured(self) -> Measured:
        return Measured(
            claims=self.figures.claims,
            claim_seconds=self.figures.claim_seconds,
            database_errors=self._database.errors,
        )

    def close(self) -> None:
        """Stop beating and say goodbye, if the database can hear it."""
        self._closed.set()
        self.join(timeout=1.0)
        try:
            with self._database.transaction() as connection:
                worker = str(self._identity["worker"])
                workers.say_goodbye(connection, worker, self._measured())
        except Exception as exc:
            log.debug("goodbye unheard", error=(str(exc).splitlines() or [""])[0])
