"""A request to stop reaches everybody who waits."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.stop import Stop, StopRequested


def test_every_lane_that_waits_is_woken() -> None:
    stop = Stop()
    with ThreadPoolExecutor(3) as pool:
        began = time.monotonic()
        waiting = [pool.submit(stop.wait, 20.0) for _ in range(3)]
        stop.ask()
        for each in waiting:
            with pytest.raises(StopRequested):
                each.result()
    assert time.monotonic() - began < 10.0
