"""A request to stop reaches everybody who waits."""

from __future__ import annotations

import signal
import subprocess
import sys
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


FORKING = """
import os, signal
from worker.stop import Stop

begun, begin = os.pipe()
killed, kill = os.pipe()


def wait_for_the_signal():
    os.write(begin, b".")
    os.read(killed, 1)


os.register_at_fork(after_in_child=wait_for_the_signal)
Stop().install()
child = os.fork()
if child == 0:
    os._exit(7)
os.read(begun, 1)
os.kill(child, signal.SIGTERM)
os.write(kill, b".")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_that_is_ended_as_it_is_forked_ends() -> None:
    """A pool ends a process of its own that way which has not come to its work yet."""
    ended = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=True
    )
    assert (ended.stdout, ended.stderr) == (f"{-signal.SIGTERM}\n", "")
