"""A signal, or a beat, that comes at the worst moment."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from tests.unit.interruptions import after_each_line
from trialfleet.store import workers
from trialfleet.store.leases import Claim
from trialfleet.store.workers import Pulse
from worker.heartbeat import Heartbeat
from worker.stop import Stop, StopRequested


def wait_interrupted_everywhere() -> None:
    """Signals at each line of a wait, each with a Stop of its own."""
    stop = Stop()

    def wait() -> None:
        try:
            stop.wait(0.01)
        except StopRequested:
            assert stop.exit_code == 143

    for _ in after_each_line(wait, lambda: signal.raise_signal(signal.SIGTERM)):
        stop = Stop()
        stop.install()


def test_a_signal_within_a_wait_ends_it() -> None:
    """Catches a handler that waits for a lock which the interrupted wait holds."""
    program = "from tests.unit import test_interrupted as t; t.wait_interrupted_everywhere()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def claim(fence: int) -> Claim:
    return Claim(fence=fence, trial_id=fence, number=fence, stage="search", attempt=1)


def test_a_beat_that_comes_late_says_nothing_of_the_next_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next trial is held at each line of a beat which finds that the one before was lost."""

    def beat(_database: Any, _identity: Any, *, fence: int, **_: Any) -> Pulse:
        return Pulse(extended=fence != 1, crowded=False)

    monkeypatch.setattr(workers, "beat", beat)
    database = MagicMock()
    identity: dict[str, Any] = {"worker": "w", "study": "s", "host": "h", "pid": 1, "version": "v"}
    heartbeat = Heartbeat(database, identity=identity, lease_seconds=60.0, on_stall=Mock())
    now = time.monotonic()
    for _ in after_each_line(heartbeat.beat, lambda: heartbeat.hold(claim(2), since=now)):
        held = heartbeat._held
        if held is not None and held.claim.fence == 2:
            heartbeat.check()
        heartbeat.hold(claim(1), since=now)
